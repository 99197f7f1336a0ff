/* Which operation a request means, and what it answers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/human.h"
#include "metrics.h"
#include "server.h"

#define TYPE_JSON	"application/json"
#define TYPE_LINES	"application/x-ndjson"
#define TYPE_LOG	"text/plain; charset=utf-8"
#define ANSWER_MS	60000		/* for a client to read its answer */

/* An answer on its way. */
struct answer {
	unsigned int		 status;
	struct MHD_Response	*response;
	size_t			 len;		/* bytes that it holds in memory */
	const char		*type, *allow;
};

/* Queue it; a response that could not be made closes the connection. */
static enum MHD_Result
send_answer(struct api *a, struct client *c, const struct answer *an)
{
	enum MHD_Result rc = MHD_NO;

	if (an->response == NULL)
		return (MHD_NO);
	if (MHD_add_response_header(an->response, MHD_HTTP_HEADER_CONTENT_TYPE, an->type) == MHD_YES &&
	    MHD_add_response_header(an->response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES &&
	    MHD_add_response_header(an->response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES &&
	    (an->allow == NULL || MHD_add_response_header(an->response, MHD_HTTP_HEADER_ALLOW, an->allow) == MHD_YES))
		rc = MHD_queue_response(c->conn, an->status, an->response);
	c->answer += an->len;
	a->answers += an->len;
	MHD_destroy_response(an->response);
	return (rc);
}

static void
answer_text(struct answer *an, unsigned int status, const char *type, char *text, size_t len)
{
	an->status = status;
	an->type = type;
	an->len = len;
	if (text != NULL && (an->response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE)) == NULL)
		free(text);
}

/* Takes ${o}; NULL is out of memory. */
static void
answer_json(struct answer *an, unsigned int status, json_t *o)
{
	static const char out_of_memory[] = "{\"error\": \"the daemon is out of memory\"}\n";
	char *text = o == NULL ? NULL : json_dumps(o, API_JSON);
	size_t len;

	json_decref(o);
	if (text == NULL) {
		text = strdup(out_of_memory);
		status = MHD_HTTP_SERVICE_UNAVAILABLE;
		len = sizeof(out_of_memory) - 1;
	} else {
		len = strlen(text);
		text[len++] = '\n';	/* in the place of the zero byte */
	}
	answer_text(an, status, TYPE_JSON, text, len);
}

/* A text that was cut may end within a character: JSON takes none such. */
static json_t *
error_string(struct err *err)
{
	json_t *s = json_string(human_safe(err->text));

	for (size_t n = strlen(err->text); s == NULL && n > 0; s = json_string(err->text))
		err->text[--n] = '\0';
	return (s);
}

static void
answer_error(struct answer *an, unsigned int status, struct err *err)
{
	answer_json(an, status, json_pack("{s:o}", "error", error_string(err)));
}

/* See struct api_ops. */
static unsigned int
status_of(const struct err *err)
{
	switch (err->code) {
	case ENOENT:
		return (MHD_HTTP_NOT_FOUND);
	case EINVAL:
		return (MHD_HTTP_BAD_REQUEST);
	case EBUSY:
	case EEXIST:
	case EALREADY:
		return (MHD_HTTP_CONFLICT);
	case EAGAIN:
	case ENOMEM:
	case ENOSPC:
		return (MHD_HTTP_SERVICE_UNAVAILABLE);
	default:
		return (MHD_HTTP_INTERNAL_SERVER_ERROR);
	}
}

static void
answer_no_run(struct answer *an, int64_t run)
{
	struct err err;

	err_set(&err, 0, "there is no run %lld", (long long)run);
	answer_error(an, MHD_HTTP_NOT_FOUND, &err);
}

static void
answer_run(struct answer *an, struct api *a, unsigned int status, int64_t run)
{
	json_t *o = a->ops->run_state(a->arg, run);

	if (o == NULL)
		answer_no_run(an, run);
	else
		answer_json(an, status, o);
}

static void
answer_stream(struct answer *an, struct api *a, struct client *c, int64_t run)
{
	json_t *o = a->ops->run_state(a->arg, run);
	struct err err;

	json_decref(o);
	if (o == NULL) {
		answer_no_run(an, run);
	} else if ((an->response = stream_response(a, c, run)) == NULL) {
		err_set(&err, 0, "too many clients follow runs: %u at most", STREAMS_MAX);
		answer_error(an, MHD_HTTP_SERVICE_UNAVAILABLE, &err);
	} else {
		an->status = MHD_HTTP_OK;
		an->type = TYPE_LINES;
		c->allowed = 0;
	}
}

static void
answer_log(struct answer *an, struct api *a, int64_t run)
{
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	if (a->ops->log(a->arg, run, &b, &err) == -1 || buf_reserve(&b, 0, &err) == -1) {
		answer_error(an, status_of(&err), &err);
		buf_free(&b);
	} else
		answer_text(an, MHD_HTTP_OK, TYPE_LOG, b.ptr, b.len);
}

static void
answer_metrics(struct answer *an, struct api *a)
{
	json_t *status = a->ops->status(a->arg);
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	if (status == NULL || metrics_format(status, &b, &err) == -1) {
		answer_json(an, MHD_HTTP_SERVICE_UNAVAILABLE, NULL);
		buf_free(&b);
	} else
		answer_text(an, MHD_HTTP_OK, METRICS_TYPE, b.ptr, b.len);
	json_decref(status);
}

static void
answer_test(struct answer *an, struct api *a, int64_t id)
{
	json_t *o = a->ops->notify_result(a->arg, id);
	struct err err;

	if (o != NULL)
		answer_json(an, MHD_HTTP_OK, o);
	else {
		err_set(&err, 0, "there is no test %lld, or it is long ago", (long long)id);
		answer_error(an, MHD_HTTP_NOT_FOUND, &err);
	}
}

/* Clients that ask for much and do not read it must not fill the memory. */
static bool
is_too_much(const struct api *a, const struct request *r)
{
	size_t most = r->what == REQUEST_HISTORY || r->what == REQUEST_RUN_LOG ? ANSWERS_MAX : 2 * ANSWERS_MAX;

	return (a->answers > most && r->what != REQUEST_RUN_STATE);
}

static void
read_something(struct answer *an, struct api *a, struct client *c, const struct request *r)
{
	switch (r->what) {
	case REQUEST_STATUS:
		answer_json(an, MHD_HTTP_OK, a->ops->status(a->arg));
		break;
	case REQUEST_JOBS:
		answer_json(an, MHD_HTTP_OK, a->ops->jobs(a->arg));
		break;
	case REQUEST_HISTORY:
		answer_json(an, MHD_HTTP_OK, a->ops->history(a->arg, r->job[0] != '\0' ? r->job : NULL, r->limit));
		break;
	case REQUEST_SCHEDULE:
		answer_json(an, MHD_HTTP_OK, a->ops->schedule(a->arg, r->next));
		break;
	case REQUEST_RUN_LOG:
		answer_log(an, a, r->run);
		break;
	case REQUEST_METRICS:
		answer_metrics(an, a);
		break;
	case REQUEST_NOTIFY_RESULT:
		answer_test(an, a, r->run);
		break;
	default:
		if (r->follow)
			answer_stream(an, a, c, r->run);
		else
			answer_run(an, a, MHD_HTTP_OK, r->run);
	}
}

static void
act(struct answer *an, struct api *a, const struct request *r)
{
	struct err err = ERR_INIT;
	int64_t run = r->run;
	int rc;

	if (r->what == REQUEST_JOB_RUN)
		rc = a->ops->run(a->arg, r->job, r->domain[0] != '\0' ? r->domain : NULL, r->full, &run, &err);
	else if (r->what == REQUEST_RUN_CANCEL)
		rc = a->ops->cancel(a->arg, run, &err);
	else if (r->what == REQUEST_NOTIFY_TEST)
		rc = a->ops->notify_test(a->arg, r->job[0] != '\0' ? r->job : NULL, &run, &err);
	else
		rc = r->what == REQUEST_PAUSE ? a->ops->pause(a->arg, &err) : a->ops->resume(a->arg, &err);
	if (rc == -1)
		answer_error(an, status_of(&err), &err);
	else if (r->what == REQUEST_JOB_RUN || r->what == REQUEST_NOTIFY_TEST)
		answer_json(an, MHD_HTTP_ACCEPTED, json_pack("{s:I}", "id", (json_int_t)run));
	else if (r->what == REQUEST_RUN_CANCEL)
		answer_run(an, a, MHD_HTTP_ACCEPTED, run);
	else
		answer_json(an, MHD_HTTP_OK, json_pack("{s:b}", "paused", (int)(r->what == REQUEST_PAUSE)));
}

/* Returns 0, or the status to refuse with. */
static unsigned int
check(const struct client *c, const struct call *call, const char *method, struct request *r, struct err *err)
{
	int status;

	if (!c->peer.may_read) {
		err_set(err, 0, "you may not use this daemon: be root, or a member of the socket's group");
		return (MHD_HTTP_FORBIDDEN);
	}
	if (call->target == NULL) {
		err_nomem(err);
		return (MHD_HTTP_SERVICE_UNAVAILABLE);
	}
	if ((status = request_parse(method, call->target, r, err)) != 0)
		return ((unsigned int)status);
	if (r->acts && !c->peer.may_act) {
		err_set(err, 0, "you may look, but not act: be root, or let the group act in the daemon's configuration");
		return (MHD_HTTP_FORBIDDEN);
	}
	if (call->too_large) {
		err_set(err, 0, "the request's body is larger than %u bytes", REQUEST_BODY);
		return (MHD_HTTP_CONTENT_TOO_LARGE);
	}
	return ((unsigned int)request_body(r, call->body.ptr, call->body.len, err));
}

enum MHD_Result
route_answer(struct api *a, struct client *c, struct call *call, const char *method)
{
	struct answer an = { .status = 0 };
	struct err err = ERR_INIT;
	struct request r = { .allow = NULL };
	unsigned int status;

	c->asked = true;
	c->since = api_now();
	c->allowed = ANSWER_MS;
	if ((status = check(c, call, method, &r, &err)) != 0) {
		an.allow = status == MHD_HTTP_METHOD_NOT_ALLOWED ? r.allow : NULL;
		answer_error(&an, status, &err);
	} else if (r.acts)
		act(&an, a, &r);
	else if (is_too_much(a, &r)) {
		err_set(&err, 0, "too many clients are reading long answers: try again in a minute");
		answer_error(&an, MHD_HTTP_SERVICE_UNAVAILABLE, &err);
	}
	else
		read_something(&an, a, c, &r);
	return (send_answer(a, c, &an));
}
