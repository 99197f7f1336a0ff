/* channels.h - the ways to tell people.  Threads: one at a time.  Blocks: up to the channel's timeout. */
#ifndef OVB_CHANNELS_H
#define OVB_CHANNELS_H

#include <curl/curl.h>
#include <jansson.h>

#include "base/buf.h"
#include "config/conf.h"

/** mail_send(m, notice, err), webhook_send(w, notice, err): Fails: -1, and ${err} says where it should have gone, and what to look at. */
int mail_send(const struct conf_mail *m, const json_t *notice, struct err *err);
int webhook_send(const struct conf_webhook *w, const json_t *notice, struct err *err);

/** mail_message(m, from, notice, out, err): The message, with its headers and lines that end with \n.  Fails: -1. */
int mail_message(const struct conf_mail *m, const char *from, const json_t *notice, struct buf *out, struct err *err);

/** smtp_send(m, from, message, err), sendmail_send(m, message, err): Hand it over.  Fails: -1. */
int smtp_send(const struct conf_mail *m, const char *from, const char *message, struct err *err);
int sendmail_send(const struct conf_mail *m, const char *message, struct err *err);

/* One transfer, and what the server said, for errors. */
struct http {
	CURL	*curl;
	char	 said[300], trouble[CURL_ERROR_SIZE];
};

/** http_begin(h, url, seconds, ca_file, err): A handle with our settings.  Fails: -1.  To be ended in any case. */
int http_begin(struct http *h, const char *url, int seconds, const char *ca_file, struct err *err);

/** http_hear_replies(h): Of a protocol that has no bodies, what the server said is the reply that refuses. */
void http_hear_replies(struct http *h);

/** http_perform(h, err): Do it.  Fails: -1, with what libcurl says and, where it is known, what to do. */
int http_perform(struct http *h, struct err *err);
void http_end(struct http *h);

#endif
