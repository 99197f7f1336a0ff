/*
 * The daemon's interface (backupd/api.h) with canned answers behind it, for tests of the interface and of virt-backupctl.
 *
 * usage: api_daemon SOCKET [--group GROUP] [--group-acts] [--request-s N] [--connections N]
 *
 * Jobs: "nightly" (its runs succeed), "broken" (they fail), "long" (they run until they are cancelled), "later" (they wait until then), "busy" (it refuses), "full" (no room).
 * A run goes on by a step every 20 ms.  It ends with its standard input, or after five minutes.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../backupd/api.h"

#define RUNS_MAX	1000
#define STEP_MS		20
#define STEPS		20
#define TOTAL		UINT64_C(20000000000)
#define NOW		"2026-11-22T20:00:00Z"

struct run {
	int64_t		 id;
	char		 job[64], domain[64];
	const char	*state;
	bool		 full;
	int		 step;
};

static struct run runs[RUNS_MAX];
static int nruns;
static bool is_paused;
static struct api *api;

static const char *const job_names[] = { "nightly", "broken", "long", "later", "busy", "full" };

#define NJOBS	(sizeof(job_names) / sizeof(job_names[0]))

static struct run *
find_run(int64_t id)
{
	return (id >= 100 && id < 100 + nruns ? &runs[id - 100] : NULL);
}

static bool
is_over(const struct run *r)
{
	return (strcmp(r->state, "running") != 0 && strcmp(r->state, "queued") != 0 && strcmp(r->state, "waiting") != 0 && strcmp(r->state, "cancelling") != 0);
}

static json_t *
run_json(const struct run *r)
{
	json_t *o = json_pack("{s:I, s:s, s:s*, s:b, s:s, s:i, s:s, s:s, s:s}", "id", (json_int_t)r->id, "job", r->job, "domain",
	    r->domain[0] != '\0' ? r->domain : NULL, "full", (int)r->full, "trigger", "request", "attempt", 1, "state", r->state, "queued", NOW, "started", NOW);

	if (r->domain[0] == '\0')
		json_object_set_new(o, "domain", json_null());
	json_object_set_new(o, "due", json_null());
	json_object_set_new(o, "not_before", strcmp(r->state, "waiting") == 0 ? json_string("2026-11-22T20:15:00Z") : json_null());
	json_object_set_new(o, "finished", is_over(r) ? json_string(NOW) : json_null());
	json_object_set_new(o, "vm", json_string("web"));
	json_object_set_new(o, "phase", json_string(strcmp(r->state, "cancelling") == 0 ? "committing" : "reading"));
	json_object_set_new(o, "done", json_integer((json_int_t)(TOTAL / STEPS * (uint64_t)(r->step < STEPS ? r->step : STEPS))));
	json_object_set_new(o, "total", json_integer((json_int_t)TOTAL));
	json_object_set_new(o, "rate", json_integer(312000000));
	json_object_set_new(o, "left", json_integer(42));
	json_object_set_new(o, "limit", strcmp(r->job, "long") == 0 ? json_integer(52428800) : json_null());
	json_object_set_new(o, "machines", json_pack("{s:i, s:i, s:i}", "total", 3, "succeeded", 1, "failed", 0));
	json_object_set_new(o, "error", strcmp(r->state, "failed") == 0 ? json_string("web: cannot freeze: the agent does not answer") : json_null());
	return (o);
}

static json_t *
machine(const char *job, const char *vm, bool good)
{
	return (json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:f, s:s?, s:s, s:s, s:I, s:I, s:I, s:f, s:s, s:s?}", "id", 7, "job", job, "vm", vm, "state",
	    good ? "succeeded" : "failed", "started", "2026-11-22T01:30:00Z", "finished", "2026-11-22T01:33:05Z", "duration", 185.25, "point",
	    good ? "web@2026-11-22T01:30:07Z" : NULL, "kind", "incremental", "consistency", "quiesced", "read", (json_int_t)25900000, "stored",
	    (json_int_t)8100000, "sent", (json_int_t)0, "frozen", 0.194, "last_success", "2026-11-22T01:33:05Z", "error",
	    good ? NULL : "cannot freeze: the agent does not answer"));
}

static json_t *
job_json(const char *name)
{
	bool good = strcmp(name, "broken") != 0, fresh = strcmp(name, "busy") == 0 || strcmp(name, "later") == 0;
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:b}", "name", name, "repository", "local", "schedule", "*-*-* 01:30:00", "next", "2026-11-23T01:30:00Z",
	    "overdue", (int)!good), *running = json_null();

	json_object_set_new(o, "last", fresh ? json_null() : json_pack("{s:i, s:s, s:s, s:s, s:i, s:s?}", "id", 7, "state", good ? "succeeded" : "failed",
	    "started", "2026-11-22T01:30:00Z", "finished", "2026-11-22T01:33:05Z", "duration", 185, "error", good ? NULL :
	    "web: cannot freeze: the agent does not answer within 30 s; see whether qemu-guest-agent runs in the guest"));
	json_object_set_new(o, "last_success", fresh ? json_null() : json_string(good ? "2026-11-22T01:33:05Z" : "2026-11-19T01:33:05Z"));
	for (int i = 0; i < nruns; i++)
		if (!is_over(&runs[i]) && strcmp(runs[i].job, name) == 0) {
			json_decref(running);
			running = json_integer((json_int_t)runs[i].id);
		}
	json_object_set_new(o, "run", running);
	json_object_set_new(o, "machines", fresh ? json_array() : json_pack("[o, o]", machine(name, "web", good), machine(name, "quote\"back\\slash", true)));
	return (o);
}

static json_t *
jobs(void *arg)
{
	json_t *a = json_array();

	(void)arg;
	for (size_t i = 0; i < NJOBS; i++)
		json_array_append_new(a, job_json(job_names[i]));
	return (a);
}

static json_t *
status(void *arg)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:{s:s, s:s, s:n}, s:o, s:[{s:s, s:s, s:I, s:I, s:b}], s:[s]}", "version", OVB_VERSION, "time", NOW, "started",
	    "2026-11-20T08:00:00Z", "paused", (int)is_paused, "config", "file", "/etc/openvirt-backup/backupd.conf", "loaded", "2026-11-20T08:00:00Z", "error",
	    "jobs", jobs(arg), "repositories", "name", "local", "url", "/var/backups/vm", "free", (json_int_t)412000000000, "total",
	    (json_int_t)1000000000000, "low", 0, "warnings", "job broken: no success for 3 days"), *a = json_array();

	for (int i = 0; i < nruns; i++)
		if (!is_over(&runs[i]))
			json_array_append_new(a, run_json(&runs[i]));
	json_object_set_new(o, "runs", a);
	return (o);
}

static json_t *
history(void *arg, const char *job, unsigned int limit)
{
	json_t *a = json_array();

	(void)arg;
	for (unsigned int i = 0; i < limit && i < 2000; i++) {
		json_t *o = machine(job != NULL ? job : job_names[i % NJOBS], "web", i % NJOBS != 1);

		json_object_del(o, "last_success");
		json_array_append_new(a, o);
	}
	return (a);
}

static json_t *
schedule(void *arg, unsigned int next)
{
	json_t *a = json_array();

	(void)arg;
	for (unsigned int i = 0; i < next && i < 24; i++) {
		char when[64];

		snprintf(when, sizeof(when), "2026-11-23T%02u:30:00Z", i);
		json_array_append_new(a, json_pack("{s:s, s:s, s:s}", "job", "nightly", "time", when, "schedule", "*-*-* *:30:00"));
	}
	return (a);
}

static int
start_run(void *arg, const char *job, const char *domain, bool full, int64_t *id, struct err *err)
{
	struct run *r = &runs[nruns];
	bool known = false;

	(void)arg;
	for (size_t i = 0; i < NJOBS; i++)
		known = known || strcmp(job, job_names[i]) == 0;
	if (!known)
		return (api_fail(err, ENOENT, "there is no job \"%s\"", job));
	if (domain != NULL && strcmp(domain, "web") != 0)
		return (api_fail(err, ENOENT, "job %s has no domain \"%s\"", job, domain));
	if (strcmp(job, "busy") == 0)
		return (api_fail(err, EBUSY, "job busy runs already (run 7)"));
	if (strcmp(job, "full") == 0 || nruns == RUNS_MAX)
		return (api_fail(err, ENOSPC, "the queue is full"));
	*r = (struct run){ .id = 100 + nruns++, .state = strcmp(job, "later") == 0 ? "waiting" : "queued", .full = full };
	snprintf(r->job, sizeof(r->job), "%s", job);
	snprintf(r->domain, sizeof(r->domain), "%s", domain != NULL ? domain : "");
	*id = r->id;
	return (0);
}

static int
cancel(void *arg, int64_t id, struct err *err)
{
	struct run *r = find_run(id);

	(void)arg;
	if (r == NULL)
		return (api_fail(err, ENOENT, "there is no run %lld", (long long)id));
	if (is_over(r))
		return (api_fail(err, EALREADY, "run %lld has ended", (long long)id));
	r->state = "cancelling";
	r->step = 0;
	api_run_changed(api, id);
	return (0);
}

static int
set_paused(void *arg, struct err *err)
{
	(void)arg;
	(void)err;
	is_paused = true;
	return (0);
}

static int
set_resumed(void *arg, struct err *err)
{
	(void)arg;
	(void)err;
	is_paused = false;
	return (0);
}

static int
run_log(void *arg, int64_t id, struct buf *out, struct err *err)
{
	(void)arg;
	if (id == 8)
		return (err_set(err, EIO, "cannot read the log of run 8"));
	if (id == 9)
		return (0);
	if (id != 7 && find_run(id) == NULL)
		return (api_fail(err, ENOENT, "there is no run %lld", (long long)id));
	return (buf_addf(out, err, "2026-11-22T01:30:00Z web: frozen for 194 ms\n2026-11-22T01:33:05Z web: 26 MB read, 8 MB stored \x1b[31mred\n"));
}

static json_t *
run_state(void *arg, int64_t id)
{
	const struct run *r = find_run(id);

	(void)arg;
	return (r == NULL ? NULL : run_json(r));
}

/* Every run goes a step further when its time has come.  Returns whether there is one. */
static bool
step(void)
{
	static int64_t last;
	struct timespec t;
	bool some = false;

	clock_gettime(CLOCK_MONOTONIC, &t);
	if ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 < last + STEP_MS)
		return (true);
	last = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;

	for (int i = 0; i < nruns; i++) {
		struct run *r = &runs[i];
		const char *before = r->state;

		if (is_over(r))
			continue;
		some = true;
		r->step++;
		if (strcmp(before, "queued") == 0)
			r->state = "running";
		else if (strcmp(before, "cancelling") == 0)
			r->state = r->step > 5 ? "cancelled" : before;
		else if (r->step >= STEPS && strcmp(r->job, "long") != 0)
			r->state = strcmp(r->job, "broken") == 0 ? "failed" : "succeeded";
		api_run_changed(api, r->id);
	}
	return (some);
}

static int
loop(void)
{
	struct pollfd p[2] = { { .fd = api_fd(api), .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
	bool some = false;

	for (;;) {
		int timeout = api_timeout(api);

		if (some && (timeout == -1 || timeout > STEP_MS))
			timeout = STEP_MS;
		if (poll(p, 2, timeout) == -1)
			return (1);
		if (p[1].revents != 0)
			return (0);
		some = step();
		api_serve(api);
	}
}

static int
notify_test(void *arg, const char *job, int64_t *id, struct err *err)
{
	(void)arg;
	if (job != NULL && strcmp(job, "nightly") != 0)
		return (api_fail(err, ENOENT, "there is no job \"%s\"", job));
	*id = 1;
	return (0);
}

static json_t *
notify_result(void *arg, int64_t id)
{
	(void)arg;
	return (id != 1 ? NULL : json_pack("{s:i, s:b, s:[{s:s, s:b, s:n}, {s:s, s:b, s:s}]}", "id", 1, "finished", 1, "channels", "channel", "webhook", "ok", 1,
	    "error", "channel", "mail", "ok", 0, "error", "smtp://mail.example.net: it does not answer"));
}

int
main(int argc, char **argv)
{
	static const struct api_ops ops = { .status = status, .jobs = jobs, .history = history, .run = start_run, .cancel = cancel, .schedule = schedule,
	    .pause = set_paused, .resume = set_resumed, .log = run_log, .run_state = run_state, .notify_test = notify_test,
	    .notify_result = notify_result };
	struct api_options o = API_OPTIONS_INIT;
	struct err err = ERR_INIT;
	int rc;

	o.path = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--group-acts") == 0)
			o.group_acts = true;
		else if (strcmp(argv[i], "--group") == 0 && i + 1 < argc)
			o.group = argv[++i];
		else if (strcmp(argv[i], "--request-s") == 0 && i + 1 < argc)
			o.request_s = (unsigned int)atoi(argv[++i]);
		else if (strcmp(argv[i], "--connections") == 0 && i + 1 < argc)
			o.connections = (unsigned int)atoi(argv[++i]);
	}
	alarm(300);
	if ((api = api_start(&o, &ops, NULL, &err)) == NULL) {
		fprintf(stderr, "api_daemon: %s\n", err.text);
		return (1);
	}
	puts("ready");
	fflush(stdout);
	rc = loop();
	api_stop(api);
	return (rc);
}
