#include "ssh/ssh_key.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "config/secret_file.h"
#include "ssh/ssh_known_hosts.h"
#include "ssh/ssh_wire.h"

#define BEGIN_OPENSSH	"-----BEGIN OPENSSH PRIVATE KEY-----"
#define END_OPENSSH	"-----END OPENSSH PRIVATE KEY-----"
#define MAGIC		"openssh-key-v1"	/* and its zero byte */

/* OpenSSH's PROTOCOL.key: magic, cipher, kdf, its options, number of keys, the public key. */
static bool
parse_openssh(const uint8_t *p, size_t n, struct ssh_key *out)
{
	struct ssh_wire w = { p + sizeof(MAGIC), n - sizeof(MAGIC) }, cipher, skipped, blob;
	uint32_t keys;

	if (n < sizeof(MAGIC) || memcmp(p, MAGIC, sizeof(MAGIC)) != 0)
		return (false);
	if (!ssh_wire_string(&w, &cipher) || !ssh_wire_string(&w, &skipped) || !ssh_wire_string(&w, &skipped) || !ssh_wire_u32(&w, &keys) ||
	    keys != 1 || !ssh_wire_string(&w, &blob) || blob.n > sizeof(out->blob))
		return (false);
	out->encrypted = cipher.n != 4 || memcmp(cipher.p, "none", 4) != 0;
	memcpy(out->blob, blob.p, blob.n);
	out->len = blob.n;
	known_hosts_type(out->blob, out->len, out->type);
	return (true);
}

static bool
look_at_openssh(const char *text, struct ssh_key *out)
{
	const char *from = text + strlen(BEGIN_OPENSSH), *end = strstr(from, END_OPENSSH);
	char base64[SSH_KEY_MAX + 1];
	uint8_t raw[SSH_KEY_MAX];
	size_t n = 0;
	bool good;
	int got;

	if (end == NULL)
		return (false);
	for (; from < end && n < SSH_KEY_MAX; from++)
		if (!isspace((unsigned char)*from))
			base64[n++] = *from;
	base64[n] = '\0';
	got = n % 4 == 0 ? EVP_DecodeBlock(raw, (const unsigned char *)base64, (int)n) : -1;
	good = got > 0 && parse_openssh(raw, (size_t)got, out);
	OPENSSL_cleanse(base64, sizeof(base64));
	OPENSSL_cleanse(raw, sizeof(raw));
	return (good);
}

static int
look_at_text(const char *path, const char *text, struct ssh_key *out, struct err *err)
{
	const char *openssh = strstr(text, BEGIN_OPENSSH);

	if (openssh != NULL)
		return (look_at_openssh(openssh, out) ? 0 : err_set(err, 0, "the key file %s is damaged", path));
	if (strstr(text, "-----BEGIN ") == NULL || strstr(text, "PRIVATE KEY-----") == NULL)
		return (err_set(err, 0, "%s holds no private key", path));
	/* PEM says only this much. */
	out->encrypted = strstr(text, "ENCRYPTED") != NULL;
	if (strstr(text, "BEGIN RSA PRIVATE KEY") != NULL)
		snprintf(out->type, sizeof(out->type), "ssh-rsa");
	else if (strstr(text, "BEGIN DSA PRIVATE KEY") != NULL)
		snprintf(out->type, sizeof(out->type), "ssh-dss");
	return (0);
}

int
ssh_key_look(const char *path, struct ssh_key *out, struct err *err)
{
	char text[SSH_KEY_MAX + 1];
	struct stat sb;
	ssize_t n;
	int fd, rc = -1;

	memset(out, 0, sizeof(*out));
	/* O_NONBLOCK: a fifo must not hold us. */
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return (err_set(err, errno, "cannot read the key file %s", path));
	if (fstat(fd, &sb) == -1 || (n = S_ISREG(sb.st_mode) ? io_pread(fd, text, SSH_KEY_MAX, 0) : 0) == -1)
		err_set(err, errno, "cannot read the key file %s", path);
	else {
		text[n] = '\0';
		/* What is no key, such as its public half, is told so. */
		rc = look_at_text(path, text, out, err) == -1 ? -1 : secret_file_check(&sb, path, "the private key", err);
	}
	OPENSSL_cleanse(text, sizeof(text));
	io_close(&fd);
	return (rc);
}
