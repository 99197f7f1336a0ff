#include "notice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/human.h"

static const char *
format_time(int64_t t, char out[32])
{
	time_t when = (time_t)t;
	struct tm tm;

	out[0] = '\0';
	if (t != NOTICE_NO_TIME && gmtime_r(&when, &tm) != NULL)
		strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return (out);
}

static json_t *
json_time(int64_t t)
{
	char text[32];

	return (format_time(t, text)[0] != '\0' ? json_string(text) : json_null());
}

/* What is no UTF-8, as a text that was cut may be, is shown as far as it is. */
static json_t *
json_safe(const char *text)
{
	char copy[1024];
	json_t *s;

	if (text == NULL || text[0] == '\0')
		return (json_null());
	if ((s = json_string(text)) != NULL)
		return (s);
	snprintf(copy, sizeof(copy), "%s", text);
	for (size_t n = strlen(copy); s == NULL && n > 0; s = json_string(copy))
		copy[--n] = '\0';
	return (s != NULL ? s : json_null());
}

static void host_name(char out[256])
{
	if (gethostname(out, 256) == -1 || out[0] == '\0')
		snprintf(out, 256, "localhost");
	out[255] = '\0';
}

/* What every notice has.  Takes ${o}; what is in ${text} becomes its text. */
static json_t *
complete(json_t *o, const char *event, struct buf *text, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static json_t *
complete(json_t *o, const char *event, struct buf *text, const char *fmt, ...)
{
	char host[256], what[512], subject[1024];
	json_t *body = NULL;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	host_name(host);
	snprintf(subject, sizeof(subject), "[openvirt-backup] %s: %s", host, what);
	if (text->ptr != NULL && (body = json_string(human_safe(text->ptr))) == NULL)
		body = json_safe(text->ptr);
	if (o == NULL || json_object_set_new(o, "event", json_string(event)) == -1 || json_object_set_new(o, "host", json_safe(host)) == -1 ||
	    json_object_set_new(o, "version", json_string(OVB_VERSION)) == -1 || json_object_set_new(o, "time", json_time(time(NULL))) == -1 ||
	    json_object_set_new(o, "subject", json_safe(subject)) == -1 || json_object_set_new(o, "text", body != NULL ? body : json_null()) == -1) {
		json_decref(o);
		o = NULL;
	}
	buf_free(text);
	return (o);
}

static const char *
ending_text(const struct notice_run *r)
{
	switch (r->event) {
	case CONF_EVENT_START:
		return ("has begun");
	case CONF_EVENT_SUCCESS:
		return ("succeeded");
	case CONF_EVENT_RETRY:
		return ("did not succeed, and is tried again");
	default:
		return ("failed");
	}
}

static void
run_text(const struct notice_run *r, struct buf *b)
{
	char when[32], size[HUMAN_LEN];
	struct err ignored = ERR_INIT;

	if (r->run != 0)
		buf_addf(b, &ignored, "Job %s: run %" PRId64 " %s.\n", r->job, r->run, ending_text(r));
	else
		buf_addf(b, &ignored, "Job %s %s.\n", r->job, ending_text(r));
	if (r->error != NULL && r->error[0] != '\0')
		buf_addf(b, &ignored, "\n%s\n", r->error);
	if (r->lines != NULL && r->lines[0] != '\0')
		buf_addf(b, &ignored, "\n%s", r->lines);
	buf_addf(b, &ignored, "\nRepository: %s\n", r->repository);
	if (r->started != NOTICE_NO_TIME)
		buf_addf(b, &ignored, "Begun: %s\n", format_time(r->started, when));
	if (r->started != NOTICE_NO_TIME && r->finished != NOTICE_NO_TIME)
		buf_addf(b, &ignored, "Took: %s\n", human_duration((double)(r->finished - r->started), size));
	if (r->attempt > 1)
		buf_addf(b, &ignored, "Attempt: %d\n", r->attempt);
	if (r->next_run != 0)
		buf_addf(b, &ignored, "It is tried again as run %" PRId64 "%s%s.\n", r->next_run, r->next_at > 0 ? ", at " : ", now",
		    r->next_at > 0 ? format_time(r->next_at, when) : "");
	if (r->run != 0 && r->event != CONF_EVENT_START)
		buf_addf(b, &ignored, "\nvirt-backupctl log %" PRId64 " says more.\n", r->run);
}

json_t *
notice_run(const struct notice_run *r)
{
	struct buf text = BUF_INIT;
	json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:{s:i, s:i}, s:o, s:o}", "job", r->job, "repository", r->repository, "run",
	    r->run != 0 ? json_integer(r->run) : json_null(), "state", json_safe(r->state), "attempt", r->attempt, "started", json_time(r->started),
	    "finished", json_time(r->finished), "duration", r->started != NOTICE_NO_TIME && r->finished != NOTICE_NO_TIME ?
	    json_integer(r->finished - r->started) : json_null(), "error", json_safe(r->error), "machines", "succeeded", (int)r->succeeded, "failed",
	    (int)r->failed, "next_run", r->next_run != 0 ? json_integer(r->next_run) : json_null(), "next_at", r->next_at > 0 ? json_time(r->next_at) :
	    json_null());

	run_text(r, &text);
	return (complete(o, conf_event_name(r->event), &text, "job %s %s", r->job, ending_text(r)));
}

json_t *
notice_overdue(const struct conf_job *job, int64_t last_success, const char *error)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:o}", "job", job->name, "repository", job->repository->name, "alert_after", job->alert_after,
	    "last_success", json_time(last_success), "error", json_safe(error));
	char age[HUMAN_LEN], when[32], what[64] = "has never succeeded";
	struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;

	if (last_success != NOTICE_NO_TIME) {
		snprintf(what, sizeof(what), "has not succeeded for %s", human_age((time_t)(time(NULL) - last_success), age));
		buf_addf(&text, &ignored, "Job %s last succeeded at %s; alert_after is %s.\n", job->name, format_time(last_success, when), job->alert_after);
	} else
		buf_addf(&text, &ignored, "Job %s has never succeeded since it was configured; alert_after is %s.\n", job->name, job->alert_after);
	if (error != NULL && error[0] != '\0')
		buf_addf(&text, &ignored, "\nHow its last run ended: %s\n", error);
	buf_addf(&text, &ignored, "\nThis is told once a day until it succeeds.  virt-backupctl status shows how it stands.\n");
	return (complete(o, conf_event_name(CONF_EVENT_OVERDUE), &text, "job %s %s", job->name, what));
}

json_t *
notice_low_space(const struct conf_repository *r, uint64_t free, uint64_t total)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:o, s:s}", "repository", r->name, "url", r->url, "free", (json_int_t)free, "total",
	    total > 0 ? json_integer((json_int_t)total) : json_null(), "low_space", r->low_space);
	char have[HUMAN_LEN], all[HUMAN_LEN];
	struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;

	buf_addf(&text, &ignored, "The repository %s (%s) has %s free", r->name, r->url, human_size(free, have));
	if (total > 0)
		buf_addf(&text, &ignored, " of %s", human_size(total, all));
	buf_addf(&text, &ignored, ", less than its low_space of %s.\n\nMake room, or keep fewer restore points, before backups fail.\n", r->low_space);
	return (complete(o, conf_event_name(CONF_EVENT_LOW_SPACE), &text, "repository %s has only %s left", r->name, have));
}

json_t *
notice_test(const char *job)
{
	json_t *o = json_pack("{s:s}", "job", job);
	struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;

	buf_addf(&text, &ignored, "This is a test, as somebody asked for with virt-backupctl notify-test.  Nothing has happened to job %s.\n", job);
	return (complete(o, NOTICE_TEST, &text, "a test of notifications"));
}

const char *
notice_text(const json_t *notice, const char *key)
{
	const char *s = json_string_value(json_object_get(notice, key));

	return (s != NULL ? s : "");
}
