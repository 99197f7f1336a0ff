/* A webhook: a POST of the facts to one URL, or pings as services take them that watch whether something happens. */
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channels.h"
#include "config/secret.h"
#include "notice.h"

#define JOB	"{job}"		/* in a URL it stands for the job's name */
#define URL_MAX	2048u

/* Where, without what may be a secret in the path. */
static void
describe(const char *url, char out[300])
{
	const char *host = strstr(url, "://");
	size_t n = host == NULL ? 0 : (size_t)(host + 3 - url) + strcspn(host + 3, "/?#");

	snprintf(out, 300, "%.*s%s", (int)(n < 250 ? n : 250), url, strlen(url) > n + 1 ? "/..." : "");
}

/* ${url} with ${ending} after its path, and the job's name where that belongs. */
static int
expand(const char *url, const char *ending, const char *job, char out[URL_MAX], struct err *err)
{
	size_t path = strcspn(url, "?"), n = 0;
	char whole[URL_MAX];
	const char *p = whole;

	while (path > 0 && *ending != '\0' && url[path - 1] == '/')
		path--;
	if ((size_t)snprintf(whole, sizeof(whole), "%.*s%s%s", (int)path, url, ending, url + strcspn(url, "?")) >= sizeof(whole))
		return (err_set(err, 0, "the url is longer than %u bytes", URL_MAX - 1));
	for (; *p != '\0' && n < URL_MAX - 1; p++) {
		if (strncmp(p, JOB, strlen(JOB)) != 0) {
			out[n++] = *p;
			continue;
		}
		n += (size_t)snprintf(out + n, URL_MAX - n, "%s", job);
		p += strlen(JOB) - 1;
	}
	if (*p != '\0' || n >= URL_MAX)
		return (err_set(err, 0, "the url is longer than %u bytes", URL_MAX - 1));
	out[n] = '\0';
	return (0);
}

static struct curl_slist *
headers(const struct conf_webhook *w, const char *type, struct err *err)
{
	char secret[SECRET_MAX], line[SECRET_MAX + 64];
	struct curl_slist *list = curl_slist_append(NULL, type), *more;

	if (list == NULL)
		err_nomem(err);
	if (list == NULL || w->token_file == NULL)
		return (list);
	if (secret_read(w->token_file, "the token", secret, err) == -1) {
		curl_slist_free_all(list);
		return (NULL);
	}
	snprintf(line, sizeof(line), "Authorization: Bearer %s", secret);
	if ((more = curl_slist_append(list, line)) == NULL) {
		err_nomem(err);
		curl_slist_free_all(list);
	}
	OPENSSL_cleanse(line, sizeof(line));
	OPENSSL_cleanse(secret, sizeof(secret));
	return (more);
}

static int
post(const struct conf_webhook *w, const char *url, const char *type, const char *body, struct err *err)
{
	struct curl_slist *list = NULL;
	struct http h = { NULL };
	char where[300];
	long status = 0;
	int rc = -1;

	describe(url, where);
	if (http_begin(&h, url, w->timeout, w->ca_file, err) == -1 || (list = headers(w, type, err)) == NULL)
		goto out;
	curl_easy_setopt(h.curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h.curl, CURLOPT_USERAGENT, "openvirt-backup/" OVB_VERSION);
	curl_easy_setopt(h.curl, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(h.curl, CURLOPT_POSTFIELDS, body);
	if (http_perform(&h, err) == -1)
		goto out;
	curl_easy_getinfo(h.curl, CURLINFO_RESPONSE_CODE, &status);
	rc = status >= 200 && status < 300 ? 0 : err_set(err, 0, "it answers with the HTTP status %ld%s%s", status, h.said[0] != '\0' ? ": " : "", h.said);
out:
	curl_slist_free_all(list);
	http_end(&h);
	return (rc == 0 ? 0 : err_wrap(err, "%s", where));
}

static int
ping(const struct conf_webhook *w, const char *url, const char *ending, const json_t *notice, struct err *err)
{
	struct buf body = BUF_INIT;
	char whole[URL_MAX];
	int rc = -1;

	if (expand(url, ending, notice_text(notice, "job"), whole, err) == 0 &&
	    buf_addf(&body, err, "%s\n\n%s", notice_text(notice, "subject"), notice_text(notice, "text")) == 0)
		rc = post(w, whole, "Content-Type: text/plain; charset=utf-8", body.ptr, err);
	buf_free(&body);
	return (rc);
}

static int
post_facts(const struct conf_webhook *w, const json_t *notice, struct err *err)
{
	char *body = json_dumps(notice, JSON_COMPACT), whole[URL_MAX];
	int rc = -1;

	if (body == NULL)
		err_nomem(err);
	else if (expand(w->url, "", notice_text(notice, "job"), whole, err) == 0)
		rc = post(w, whole, "Content-Type: application/json", body, err);
	free(body);
	return (rc);
}

int
webhook_send(const struct conf_webhook *w, const json_t *notice, struct err *err)
{
	const struct {
		const char	*event, *url, *ending;
	} pings[] = {
		{ "start", w->ping != NULL ? w->ping : w->start_url, w->ping != NULL ? "/start" : "" },
		{ "success", w->ping != NULL ? w->ping : w->success_url, "" },
		{ "failure", w->ping != NULL ? w->ping : w->failure_url, w->ping != NULL ? "/fail" : "" },
	};
	const char *event = notice_text(notice, "event");
	bool test = strcmp(event, NOTICE_TEST) == 0, sent = false;

	if (w->url != NULL)
		return (post_facts(w, notice, err));
	for (size_t i = 0; i < sizeof(pings) / sizeof(pings[0]); i++) {
		/* A test leaves the service content, where that can be. */
		if (pings[i].url == NULL || (test ? sent && strcmp(pings[i].event, "failure") == 0 : strcmp(pings[i].event, event) != 0))
			continue;
		if (ping(w, pings[i].url, pings[i].ending, notice, err) == -1)
			return (-1);
		sent = true;
	}
	return (0);
}
