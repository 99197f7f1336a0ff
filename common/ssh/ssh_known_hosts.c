#include "ssh/ssh_known_hosts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "ssh/ssh_wire.h"

#define LINE_LONGEST	16384u
#define KEY_LONGEST	12288u
#define SHA1_LEN	20
#define BLANKS		" \t\r\n"

/* What the file is searched for. */
struct wanted {
	const char	*host;
	const uint8_t	*key;
	size_t		 len;
	char		 type[KNOWN_TYPE_LEN];
};

/* Decode base64 of at most ${max} bytes.  Returns how many, 0 when it is none. */
static size_t
decode(const char *text, uint8_t *out, size_t max)
{
	size_t n = strlen(text), pad = n > 1 && text[n - 2] == '=' ? 2 : n > 0 && text[n - 1] == '=' ? 1 : 0;

	if (n == 0 || n % 4 != 0 || n / 4 * 3 > max)
		return (0);
	return (EVP_DecodeBlock(out, (const unsigned char *)text, (int)n) == -1 ? 0 : n / 4 * 3 - pad);
}

/* "|1|salt|HMAC-SHA1(salt, host)" */
static bool
hashed_matches(const char *pattern, const char *host)
{
	uint8_t salt[48], want[48], got[EVP_MAX_MD_SIZE];
	const char *sep = strchr(pattern + 3, '|');
	char text[128];
	unsigned int n = 0;
	size_t nsalt;

	if (sep == NULL || (size_t)(sep - pattern - 3) >= sizeof(text))
		return (false);
	snprintf(text, sizeof(text), "%.*s", (int)(sep - pattern - 3), pattern + 3);
	if ((nsalt = decode(text, salt, sizeof(salt))) == 0 || decode(sep + 1, want, sizeof(want)) != SHA1_LEN)
		return (false);
	if (HMAC(EVP_sha1(), salt, (int)nsalt, (const unsigned char *)host, strlen(host), got, &n) == NULL)
		return (false);
	return (n == SHA1_LEN && memcmp(got, want, SHA1_LEN) == 0);
}

/* '*' and '?' only: brackets are part of "[host]:port". */
static bool
pattern_matches(const char *p, const char *s)
{
	const char *star = NULL, *back = NULL;

	while (*s != '\0') {
		if (*p == '*') {
			star = p++;
			back = s;
		} else if (*p == '?' || tolower((unsigned char)*p) == tolower((unsigned char)*s)) {
			p++;
			s++;
		} else if (star != NULL) {
			p = star + 1;
			s = ++back;
		} else
			return (false);
	}
	while (*p == '*')
		p++;
	return (*p == '\0');
}

/* A comma-separated list, which is cut up; one that matches after '!' speaks against the whole line. */
static bool
hosts_match(char *list, const char *host)
{
	bool found = false;
	char *save = NULL;

	for (char *p = strtok_r(list, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
		if (p[0] == '!' && pattern_matches(p + 1, host))
			return (false);
		if (strncmp(p, "|1|", 3) == 0 ? hashed_matches(p, host) : pattern_matches(p, host))
			found = true;
	}
	return (found);
}

static void
add_type(struct known_found *out, const char *type)
{
	for (size_t i = 0; i < out->ntypes; i++)
		if (strcmp(out->types[i], type) == 0)
			return;
	if (out->ntypes < KNOWN_TYPES_MAX)
		snprintf(out->types[out->ntypes++], KNOWN_TYPE_LEN, "%s", type);
}

static void
look_at_line(char *line, const char *file, unsigned int number, const struct wanted *w, struct known_found *out)
{
	char *save = NULL, *hosts = strtok_r(line, BLANKS, &save), *type, *text;
	uint8_t key[KEY_LONGEST];
	enum known_verdict says;
	bool revoked = false;
	size_t n;

	if (hosts == NULL || hosts[0] == '#')
		return;
	if (hosts[0] == '@') {
		revoked = strcmp(hosts, "@revoked") == 0;
		hosts = revoked ? strtok_r(NULL, BLANKS, &save) : NULL;
	}
	if (hosts == NULL || (type = strtok_r(NULL, BLANKS, &save)) == NULL || (text = strtok_r(NULL, BLANKS, &save)) == NULL ||
	    strlen(type) >= KNOWN_TYPE_LEN || (n = decode(text, key, sizeof(key))) == 0 || !hosts_match(hosts, w->host))
		return;
	if (!revoked)
		add_type(out, type);
	if (w->key == NULL)
		return;
	if (n == w->len && memcmp(key, w->key, n) == 0)
		says = revoked ? KNOWN_REVOKED : KNOWN_MATCH;
	else if (!revoked)
		says = strcmp(type, w->type) == 0 ? KNOWN_CHANGED : KNOWN_NO_TYPE;
	else
		return;
	/* A host may have several keys: one that fits is enough, and a revoked one is never good. */
	if (out->verdict == KNOWN_REVOKED || (out->verdict == KNOWN_MATCH && says != KNOWN_REVOKED) ||
	    (out->verdict == KNOWN_CHANGED && says == KNOWN_NO_TYPE))
		return;
	out->verdict = says;
	out->file = file;
	out->line = number;
}

static int
look_in_file(const char *file, const struct wanted *w, struct known_found *out, struct err *err)
{
	char line[LINE_LONGEST];
	unsigned int number = 0;
	FILE *f = fopen(file, "re");
	int rc = 0;

	if (f == NULL)
		return (errno == ENOENT || errno == ENOTDIR ? 0 : err_set(err, errno, "cannot read the known host keys in %s", file));
	while (fgets(line, sizeof(line), f) != NULL) {
		number++;
		look_at_line(line, file, number, w, out);
	}
	if (ferror(f))
		rc = err_set(err, errno, "cannot read the known host keys in %s", file);
	fclose(f);
	return (rc);
}

int
known_hosts_look(char *const *files, size_t n, const char *host, const uint8_t *key, size_t len, struct known_found *out, struct err *err)
{
	struct wanted w = { .host = host, .key = key, .len = len };

	*out = (struct known_found){ .verdict = KNOWN_NO_HOST };
	if (key != NULL)
		known_hosts_type(key, len, w.type);
	for (size_t i = 0; i < n; i++)
		if (look_in_file(files[i], &w, out, err) == -1)
			return (-1);
	return (0);
}

const char *
known_hosts_type(const uint8_t *key, size_t len, char out[KNOWN_TYPE_LEN])
{
	struct ssh_wire w = { key, len }, type;

	out[0] = '\0';
	if (ssh_wire_string(&w, &type) && type.n < KNOWN_TYPE_LEN)
		snprintf(out, KNOWN_TYPE_LEN, "%.*s", (int)type.n, (const char *)type.p);
	return (out);
}

const char *
known_hosts_fingerprint(const uint8_t *key, size_t len, char out[64])
{
	uint8_t digest[EVP_MAX_MD_SIZE], text[EVP_MAX_MD_SIZE * 2];
	unsigned int n = 0;

	if (EVP_Digest(key, len, digest, &n, EVP_sha256(), NULL) != 1)
		n = 0;
	EVP_EncodeBlock(text, digest, (int)n);
	snprintf(out, 64, "SHA256:%.*s", (int)strcspn((const char *)text, "="), (const char *)text);
	return (out);
}

int
known_hosts_add(const char *file, const char *host, const uint8_t *key, size_t len, struct err *err)
{
	char type[KNOWN_TYPE_LEN], *text;
	struct buf line = BUF_INIT;
	int fd = -1, rc = -1;

	if (len > KEY_LONGEST)
		return (err_set(err, 0, "the host's key has %zu bytes, more than is sensible", len));
	if ((text = malloc(len / 3 * 4 + 8)) == NULL)
		return (err_nomem(err));
	EVP_EncodeBlock((unsigned char *)text, key, (int)len);
	if (buf_addf(&line, err, "%s %s %s\n", host, known_hosts_type(key, len, type), text) == -1)
		goto out;
	if ((fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) == -1 || write(fd, line.ptr, line.len) != (ssize_t)line.len ||
	    fsync(fd) == -1)
		err_set(err, errno, "cannot add the host's key to %s", file);
	else
		rc = 0;
out:
	io_close(&fd);
	buf_free(&line);
	free(text);
	return (rc);
}
