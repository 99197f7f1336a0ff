/* A message to a mail server, by libcurl. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "channels.h"
#include "config/secret.h"

struct upload {
	const char	*p;
	size_t		 len;
};

static size_t
on_read(char *out, size_t size, size_t n, void *arg)
{
	struct upload *u = arg;
	size_t len = size * n < u->len ? size * n : u->len;

	memcpy(out, u->p, len);
	u->p += len;
	u->len -= len;
	return (len);
}

static int
log_in(const struct conf_mail *m, struct http *h, struct err *err)
{
	char password[SECRET_MAX];

	if (m->user == NULL)
		return (0);
	if (secret_read(m->password_file, "the password", password, err) == -1)
		return (-1);
	curl_easy_setopt(h->curl, CURLOPT_USERNAME, m->user);
	curl_easy_setopt(h->curl, CURLOPT_PASSWORD, password);
	OPENSSL_cleanse(password, sizeof(password));
	return (0);
}

static int
lines_with_cr(const char *message, struct buf *out, struct err *err)
{
	for (size_t n; *message != '\0'; message += n + (message[n] == '\n')) {
		n = strcspn(message, "\n");
		if (buf_add(out, message, n, err) == -1 || buf_add(out, "\r\n", 2, err) == -1)
			return (-1);
	}
	return (0);
}

static int
recipients(const struct conf_mail *m, struct curl_slist **list, struct err *err)
{
	struct curl_slist *more;

	for (size_t i = 0; i < m->to.n; i++) {
		if ((more = curl_slist_append(*list, m->to.v[i])) == NULL)
			return (err_nomem(err));
		*list = more;
	}
	return (0);
}

int
smtp_send(const struct conf_mail *m, const char *from, const char *message, struct err *err)
{
	static const long starttls[] = { CURLUSESSL_ALL, CURLUSESSL_TRY, CURLUSESSL_NONE };
	struct curl_slist *to = NULL;
	struct buf text = BUF_INIT;
	struct upload u;
	struct http h = { NULL };
	char sender[330];
	int rc = -1;

	if (http_begin(&h, m->server, m->timeout, m->ca_file, err) == -1 || log_in(m, &h, err) == -1 || recipients(m, &to, err) == -1 ||
	    lines_with_cr(message, &text, err) == -1)
		goto out;
	u = (struct upload){ text.ptr, text.len };
	snprintf(sender, sizeof(sender), "<%s>", from);
	curl_easy_setopt(h.curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	curl_easy_setopt(h.curl, CURLOPT_PROXY, "");
	curl_easy_setopt(h.curl, CURLOPT_USE_SSL, starttls[m->starttls]);
	curl_easy_setopt(h.curl, CURLOPT_MAIL_FROM, sender);
	curl_easy_setopt(h.curl, CURLOPT_MAIL_RCPT, to);
	curl_easy_setopt(h.curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(h.curl, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(h.curl, CURLOPT_READDATA, &u);
	http_hear_replies(&h);
	rc = http_perform(&h, err);
out:
	curl_slist_free_all(to);
	buf_free(&text);
	http_end(&h);
	return (rc == 0 ? 0 : err_wrap(err, "%s", m->server));
}
