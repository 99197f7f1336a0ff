#include "client.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define ANSWER_MAX	(64u << 20)	/* bytes of an answer */
#define LINE_MAX_BYTES	(1u << 20)	/* of a stream's line */
#define CONNECT_S	10L
#define ANSWER_S	60L
#define SILENCE_S	45L		/* a stream says something every 15 s */

struct client {
	CURL		*curl;
	char		*path;
	struct buf	 in;
	struct err	 err;
	bool		 failed;		/* while receiving: ${err} says why */
	int		 (*on_object)(void *, const json_t *);
	void		*arg;
	int		 rc;			/* what it returned */
};

struct client *
client_open(const char *path, struct err *err)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL || (c->path = strdup(path != NULL ? path : CLIENT_SOCKET)) == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 ||
	    (c->curl = curl_easy_init()) == NULL) {
		err_nomem(err);
		client_close(c);
		return (NULL);
	}
	return (c);
}

void
client_close(struct client *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->curl);
	buf_free(&c->in);
	free(c->path);
	free(c);
}

char *
client_path(struct client *c, const char *fmt, const char *name, struct err *err)
{
	char *escaped = curl_easy_escape(c->curl, name, 0), *out = NULL;
	const char *at = strstr(fmt, "%s");

	if (escaped == NULL || asprintf(&out, "%.*s%s%s", (int)(at - fmt), fmt, escaped, at + 2) == -1) {
		err_nomem(err);
		out = NULL;
	}
	curl_free(escaped);
	return (out);
}

static size_t
on_data(char *p, size_t size, size_t n, void *arg)
{
	struct client *c = arg;

	if (c->in.len + n * size > ANSWER_MAX) {
		c->failed = true;
		err_set(&c->err, 0, "the daemon's answer is too long");
		return (0);
	}
	if (buf_add(&c->in, p, n * size, &c->err) == -1) {
		c->failed = true;
		return (0);
	}
	return (n * size);
}

/* Hand on each whole line of a stream that is one; of anything else the whole is kept, for refused(). */
static size_t
on_lines(char *p, size_t size, size_t n, void *arg)
{
	struct client *c = arg;
	long status = 0;
	char *line, *end;

	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	if (on_data(p, size, n, arg) != n * size)
		return (0);
	if (status != 200)
		return (n * size);
	for (line = c->in.ptr; (end = memchr(line, '\n', c->in.len - (size_t)(line - c->in.ptr))) != NULL && c->rc == 0; line = end + 1) {
		json_t *o = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);

		if (o == NULL) {
			c->failed = true;
			err_set(&c->err, 0, "what listens on %s does not answer in JSON: is it virt-backupd?", c->path);
			return (0);
		}
		c->rc = c->on_object(c->arg, o);
		json_decref(o);
	}
	c->in.len -= (size_t)(line - c->in.ptr);
	memmove(c->in.ptr, line, c->in.len);
	if (c->in.len > LINE_MAX_BYTES)
		c->failed = err_set(&c->err, 0, "the daemon's line is too long") == -1;
	return (c->rc != 0 || c->failed ? 0 : n * size);
}

static int
on_turn(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
	(void)arg;
	(void)dltotal;
	(void)dlnow;
	(void)ultotal;
	(void)ulnow;
	return (interrupted);
}

/* Why libcurl came back without an answer. */
static int
explain(struct client *c, CURLcode code, struct err *err)
{
	long os = 0;

	curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &os);
	if (c->failed)
		*err = c->err;
	else if (code == CURLE_ABORTED_BY_CALLBACK)
		err_plain(err, EINTR, "interrupted while asking the daemon on %s", c->path);
	else if (code == CURLE_COULDNT_CONNECT && (os == EACCES || os == EPERM))
		err_set(err, 0, "you may not connect to %s: be root, or a member of the group that the daemon's socket has", c->path);
	else if (code == CURLE_COULDNT_CONNECT)
		err_plain(err, EPIPE, "no daemon answers on %s%s%s: start it (systemctl start virt-backupd), or say with --socket where it listens", c->path,
		    os != 0 ? ": " : "", os != 0 ? strerror((int)os) : "");
	else if (code == CURLE_OPERATION_TIMEDOUT)
		err_plain(err, EPIPE, "the daemon on %s does not answer in time: try again, or look at its log (journalctl -u virt-backupd)", c->path);
	else
		err_plain(err, EPIPE, "the daemon on %s broke off: %s: try again, or look at its log (journalctl -u virt-backupd)", c->path, curl_easy_strerror(code));
	return (-1);
}

/* An answer that is no success: its text, or at least its number. */
static int
refused(struct client *c, long status, struct err *err)
{
	json_t *o = c->in.ptr != NULL ? json_loadb(c->in.ptr, c->in.len, 0, NULL) : NULL;
	const char *text = json_string_value(json_object_get(o, "error"));

	if (text != NULL)
		err_set(err, 0, "%s", text);
	else
		err_set(err, 0, "the daemon on %s answers with the HTTP status %ld", c->path, status);
	json_decref(o);
	return (-1);
}

/* One request; ${body} NULL is a GET. */
static int
request(struct client *c, const char *path, const char *body, bool stream, struct err *err)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	char *url = NULL;
	CURLcode code;
	long status = 0;

	buf_reset(&c->in);
	c->failed = false;
	if (headers == NULL || asprintf(&url, "http://localhost%s", path) == -1) {
		curl_slist_free_all(headers);
		return (err_nomem(err));
	}
	curl_easy_reset(c->curl);
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->path);
	curl_easy_setopt(c->curl, CURLOPT_PROXY, "");		/* whatever the environment says */
	curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "virt-backupctl/" OVB_VERSION);
	curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, stream ? on_lines : on_data);
	curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_turn);
	if (stream) {
		curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
	} else
		curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, ANSWER_S);
	if (body != NULL) {
		curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
	}
	code = curl_easy_perform(c->curl);
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	free(url);
	if (code != CURLE_OK)
		return (explain(c, code, err));
	return (status >= 200 && status < 300 ? 0 : refused(c, status, err));
}

static json_t *
parse_answer(struct client *c, struct err *err)
{
	json_t *o = c->in.ptr != NULL ? json_loadb(c->in.ptr, c->in.len, JSON_REJECT_DUPLICATES, NULL) : NULL;

	if (o == NULL)
		err_set(err, 0, "what listens on %s does not answer in JSON: is it virt-backupd?", c->path);
	return (o);
}

json_t *
client_get(struct client *c, const char *path, struct err *err)
{
	return (request(c, path, NULL, false, err) == -1 ? NULL : parse_answer(c, err));
}

json_t *
client_post(struct client *c, const char *path, const json_t *body, struct err *err)
{
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : strdup("");
	json_t *o = NULL;

	if (text == NULL)
		err_nomem(err);
	else if (request(c, path, text, false, err) == 0)
		o = parse_answer(c, err);
	free(text);
	return (o);
}

int
client_text(struct client *c, const char *path, struct buf *out, struct err *err)
{
	if (request(c, path, NULL, false, err) == -1)
		return (-1);
	return (buf_add(out, c->in.ptr != NULL ? c->in.ptr : "", c->in.len, err));
}

int
client_follow(struct client *c, const char *path, int (*on_object)(void *arg, const json_t *o), void *arg, struct err *err)
{
	int rc;

	c->on_object = on_object;
	c->arg = arg;
	c->rc = 0;
	rc = request(c, path, NULL, true, err);
	return (c->rc != 0 ? c->rc : rc);
}
