/* What mail and webhooks have in common: a transfer by libcurl that ends in time. */
#include <stdio.h>
#include <string.h>

#include "base/human.h"
#include "channels.h"

/* The first line of an answer: it often says what is wrong. */
static size_t
on_said(char *p, size_t size, size_t n, void *arg)
{
	struct http *h = arg;
	size_t len = size * n;

	if (h->said[0] == '\0')
		snprintf(h->said, sizeof(h->said), "%.*s", (int)(len < sizeof(h->said) ? len : sizeof(h->said) - 1), p);
	h->said[strcspn(h->said, "\r\n")] = '\0';
	human_safe(h->said);
	return (len);
}

int
http_begin(struct http *h, const char *url, int seconds, const char *ca_file, struct err *err)
{
	*h = (struct http){ .curl = curl_easy_init() };
	if (h->curl == NULL)
		return (err_nomem(err));
	curl_easy_setopt(h->curl, CURLOPT_URL, url);
	curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h->curl, CURLOPT_TIMEOUT, (long)seconds);
	curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, h->trouble);
	curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_said);
	curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, h);
	if (ca_file != NULL)
		curl_easy_setopt(h->curl, CURLOPT_CAINFO, ca_file);
	return (0);
}

/* Of SMTP's replies the one that refuses. */
static size_t
on_reply(char *p, size_t size, size_t n, void *arg)
{
	return (size * n > 0 && (p[0] == '4' || p[0] == '5') ? on_said(p, size, n, arg) : size * n);
}

void
http_hear_replies(struct http *h)
{
	curl_easy_setopt(h->curl, CURLOPT_HEADERFUNCTION, on_reply);
	curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, h);
}

static const char *
advice(CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return ("; see whether its name is right, and the resolver works");
	case CURLE_COULDNT_CONNECT:
		return ("; see whether it runs, and a firewall lets us pass");
	case CURLE_OPERATION_TIMEDOUT:
		return ("; raise timeout if it is only slow");
	case CURLE_LOGIN_DENIED:
		return ("; see user and password_file");
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return ("; a certificate of one's own needs ca_file");
	case CURLE_USE_SSL_FAILED:
		return ("; it does not offer STARTTLS: take smtps://, or see starttls");
	default:
		return ("");
	}
}

int
http_perform(struct http *h, struct err *err)
{
	CURLcode code = curl_easy_perform(h->curl);
	const char *text = h->trouble[0] != '\0' ? h->trouble : curl_easy_strerror(code);

	if (code == CURLE_OK)
		return (0);
	return (err_set(err, 0, "%s%s%s%s%s", text, h->said[0] != '\0' ? " (it said: " : "", h->said, h->said[0] != '\0' ? ")" : "", advice(code)));
}

void
http_end(struct http *h)
{
	curl_easy_cleanup(h->curl);
}
