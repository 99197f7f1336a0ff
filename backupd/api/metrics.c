#include "metrics.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "repository/naming.h"

#define PREFIX	"openvirt_backup_"

/* How a value of the status becomes a number. */
enum kind { KIND_NUMBER, KIND_TIME, KIND_AGE, KIND_FLAG, KIND_GIVEN, KIND_SUCCESS };

/* ${path} is a key, or two with a dot between. */
struct metric {
	const char	*name, *help, *path;
	enum kind	 kind;
};

/* Labels are names out of the objects. */
static const struct metric of_job[] = {
	{ "job_last_success_timestamp_seconds", "When a run of the job last succeeded.", "last_success", KIND_TIME },
	{ "job_last_success_age_seconds", "How long ago that was.", "last_success", KIND_AGE },
	{ "job_last_run_timestamp_seconds", "When the job's last run ended.", "last.finished", KIND_TIME },
	{ "job_last_run_duration_seconds", "How long it took.", "last.duration", KIND_NUMBER },
	{ "job_last_run_success", "Whether it succeeded (1) or not (0).", "last.state", KIND_SUCCESS },
	{ "job_next_run_timestamp_seconds", "When the job is due.", "next", KIND_TIME },
	{ "job_overdue", "Whether its last success is older than configured (1) or not (0).", "overdue", KIND_FLAG },
	{ "job_running", "Whether a run of it runs or waits (1) or not (0).", "run", KIND_GIVEN },
};

static const struct metric of_machine[] = {
	{ "domain_last_success_timestamp_seconds", "When the domain was last backed up by the job.", "last_success", KIND_TIME },
	{ "domain_last_success_age_seconds", "How long ago that was.", "last_success", KIND_AGE },
	{ "domain_last_run_timestamp_seconds", "When its last backup ended, whatever became of it.", "finished", KIND_TIME },
	{ "domain_last_run_duration_seconds", "How long it took.", "duration", KIND_NUMBER },
	{ "domain_last_run_success", "Whether it succeeded (1) or not (0).", "state", KIND_SUCCESS },
	{ "domain_last_run_read_bytes", "Bytes read from its disks.", "read", KIND_NUMBER },
	{ "domain_last_run_stored_bytes", "Bytes stored in the repository.", "stored", KIND_NUMBER },
	{ "domain_last_run_sent_bytes", "Bytes sent over the network.", "sent", KIND_NUMBER },
	{ "domain_last_run_frozen_seconds", "How long its file systems were frozen.", "frozen", KIND_NUMBER },
};

static const struct metric of_repository[] = {
	{ "repository_free_bytes", "Bytes free where the repository is.", "free", KIND_NUMBER },
	{ "repository_size_bytes", "Size of the file system where the repository is.", "total", KIND_NUMBER },
	{ "repository_low_space", "Whether less is free than configured (1) or not (0).", "low", KIND_FLAG },
};

static const struct metric of_daemon[] = {
	{ "start_time_seconds", "When the daemon was started.", "started", KIND_TIME },
	{ "paused", "Whether scheduled runs are held back (1) or not (0).", "paused", KIND_FLAG },
	{ "config_error", "Whether a newer configuration was refused (1) or not (0).", "config.error", KIND_GIVEN },
};

struct writer {
	struct buf	*out;
	time_t		 now;
	struct err	*err;
};

static const json_t *
at_path(const json_t *o, const char *path)
{
	const char *dot = strchr(path, '.');
	char first[32];

	if (dot == NULL)
		return (json_object_get(o, path));
	snprintf(first, sizeof(first), "%.*s", (int)(dot - path), path);
	return (json_object_get(json_object_get(o, first), dot + 1));
}

/* The metric's value in ${o}.  False: not known. */
static bool
value_of(const struct metric *m, const json_t *o, time_t now, double *out)
{
	const json_t *v = at_path(o, m->path);
	time_t t;

	switch (m->kind) {
	case KIND_GIVEN:
		*out = v != NULL && !json_is_null(v);
		return (json_is_object(o));
	case KIND_FLAG:
		*out = json_is_true(v);
		return (json_is_boolean(v));
	case KIND_SUCCESS:
		*out = json_is_string(v) && strcmp(json_string_value(v), "succeeded") == 0;
		return (json_is_string(v));
	case KIND_TIME:
	case KIND_AGE:
		if (!json_is_string(v) || !time_parse_rfc3339(json_string_value(v), &t))
			return (false);
		*out = m->kind == KIND_TIME ? (double)t : (double)(now - t);
		return (true);
	default:
		*out = json_number_value(v);
		return (json_is_number(v) && isfinite(*out));
	}
}

static int
write_label(struct writer *w, const char *sep, const char *name, const char *value)
{
	if (buf_addf(w->out, w->err, "%s%s=\"", sep, name) == -1)
		return (-1);
	for (; *value != '\0'; value++) {
		const char *text = *value == '\\' ? "\\\\" : *value == '"' ? "\\\"" : *value == '\n' ? "\\n" : NULL;

		if (buf_add(w->out, text != NULL ? text : value, text != NULL ? 2 : 1, w->err) == -1)
			return (-1);
	}
	return (buf_add(w->out, "\"", 1, w->err));
}

/* Whole numbers in full: %g would round a time to its hour. */
static int
write_value(struct writer *w, double v)
{
	return (buf_addf(w->out, w->err, fabs(v) < 1e15 && v == floor(v) ? " %.0f\n" : " %.12g\n", v));
}

static int
write_head(struct writer *w, const char *name, const char *help)
{
	return (buf_addf(w->out, w->err, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s gauge\n", name, help, name));
}

/* One sample, with up to two labels. */
static int
write_sample(struct writer *w, const char *name, double v, const char *const labels[2], const char *const values[2])
{
	if (buf_addf(w->out, w->err, PREFIX "%s", name) == -1)
		return (-1);
	for (int i = 0; i < 2 && labels[i] != NULL; i++)
		if (write_label(w, i == 0 ? "{" : ",", labels[i], values[i]) == -1)
			return (-1);
	if (labels[0] != NULL && buf_add(w->out, "}", 1, w->err) == -1)
		return (-1);
	return (write_value(w, v));
}

/* The samples of one metric stand together, below its head; without any there is no head either. */
struct family {
	struct writer		*w;
	const struct metric	*m;
	const char		*labels[2];
	bool			 begun;
};

static int
family_add(struct family *f, const json_t *o, const char *first, const char *second)
{
	const char *const values[] = { first, second };
	double v;

	if ((f->labels[0] != NULL && first == NULL) || (f->labels[1] != NULL && second == NULL) || !value_of(f->m, o, f->w->now, &v))
		return (0);
	if (!f->begun && write_head(f->w, f->m->name, f->m->help) == -1)
		return (-1);
	f->begun = true;
	return (write_sample(f->w, f->m->name, v, f->labels, values));
}

/* A metric of each object in ${list}. */
static int
write_each(struct writer *w, const struct metric *m, const char *label, const json_t *list)
{
	struct family f = { w, m, { label, NULL }, false };
	const json_t *o;
	size_t i;

	json_array_foreach(list, i, o) {
		if (family_add(&f, o, json_string_value(json_object_get(o, "name")), NULL) == -1)
			return (-1);
	}
	return (0);
}

static int
write_machines(struct writer *w, const struct metric *m, const json_t *jobs)
{
	struct family f = { w, m, { "job", "domain" }, false };
	const json_t *job, *o;
	size_t i, k;

	json_array_foreach(jobs, i, job) {
		json_array_foreach(json_object_get(job, "machines"), k, o) {
			if (family_add(&f, o, json_string_value(json_object_get(job, "name")), json_string_value(json_object_get(o, "vm"))) == -1)
				return (-1);
		}
	}
	return (0);
}

static int
write_daemon(struct writer *w, const json_t *status)
{
	static const char *const states[] = { "queued", "waiting", "running", "cancelling" }, *const state_label[] = { "state", NULL },
	    *const version_label[] = { "version", NULL };
	const char *version[] = { json_string_value(json_object_get(status, "version")), NULL }, *text;
	const json_t *run;
	size_t i, count;

	if (version[0] != NULL && (write_head(w, "build_info", "The daemon's version.") == -1 || write_sample(w, "build_info", 1, version_label, version) == -1))
		return (-1);
	for (i = 0; i < sizeof(of_daemon) / sizeof(of_daemon[0]); i++) {
		struct family f = { w, &of_daemon[i], { NULL, NULL }, false };

		if (family_add(&f, status, NULL, NULL) == -1)
			return (-1);
	}
	if (write_head(w, "runs", "How many runs are in this state.") == -1)
		return (-1);
	for (size_t s = 0; s < sizeof(states) / sizeof(states[0]); s++) {
		const char *const values[] = { states[s], NULL };

		count = 0;
		json_array_foreach(json_object_get(status, "runs"), i, run) {
			text = json_string_value(json_object_get(run, "state"));
			count += text != NULL && strcmp(text, states[s]) == 0;
		}
		if (write_sample(w, "runs", (double)count, state_label, values) == -1)
			return (-1);
	}
	return (0);
}

int
metrics_format(const json_t *status, struct buf *out, struct err *err)
{
	struct writer w = { .out = out, .now = time(NULL), .err = err };
	const char *now = json_string_value(json_object_get(status, "time"));
	const json_t *jobs = json_object_get(status, "jobs"), *repositories = json_object_get(status, "repositories");

	if (now != NULL)
		time_parse_rfc3339(now, &w.now);
	if (write_daemon(&w, status) == -1)
		return (-1);
	for (size_t i = 0; i < sizeof(of_job) / sizeof(of_job[0]); i++)
		if (write_each(&w, &of_job[i], "job", jobs) == -1)
			return (-1);
	for (size_t i = 0; i < sizeof(of_machine) / sizeof(of_machine[0]); i++)
		if (write_machines(&w, &of_machine[i], jobs) == -1)
			return (-1);
	for (size_t i = 0; i < sizeof(of_repository) / sizeof(of_repository[0]); i++)
		if (write_each(&w, &of_repository[i], "repository", repositories) == -1)
			return (-1);
	return (0);
}
