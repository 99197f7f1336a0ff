/*
 * What a configuration means, for tests/scenario/example.t: a line "JOB.KEY = VALUE" for each key of each job ("repository" and
 * "daemon" likewise), as libconfig writes values; "unset" for what is not given and has no value of its own.
 *
 * usage: conf_values FILE
 *
 * A key that is not printed here fails the test: add it.
 */
#include <inttypes.h>
#include <stdio.h>

#include "config/conf.h"
#include "ssh/ssh_config.h"

static void
text(const char *where, const char *key, const char *v)
{
	printf("%s.%s = %s%s%s\n", where, key, v != NULL ? "\"" : "", v != NULL ? v : "unset", v != NULL ? "\"" : "");
}

static void
number(const char *where, const char *key, uint64_t v)
{
	printf("%s.%s = %" PRIu64 "\n", where, key, v);
}

static void
truth(const char *where, const char *key, int v)
{
	printf("%s.%s = %s\n", where, key, v ? "true" : "false");
}

/* Of an array only whether there is one. */
static void
array(const char *where, const char *key, size_t n)
{
	printf("%s.%s = %s\n", where, key, n > 0 ? "[ ]" : "unset");
}

static void
repository(const struct conf_repository *r)
{
	static const char *const host_key[] = { "as-ssh", "strict", "accept-new" };

	text(r->name, "name", r->name);
	text(r->name, "url", r->url);
	text(r->name, "low_space", r->low_space);
	text(r->name, "identity", r->identity);
	text(r->name, "passphrase_file", r->passphrase_file);
	text(r->name, "known_hosts", r->known_hosts);
	text(r->name, "host_key", host_key[r->host_key]);
	number(r->name, "connect_timeout", r->connect_timeout != 0 ? (uint64_t)r->connect_timeout : SSH_CONNECT_S);
	number(r->name, "idle_timeout", r->idle_timeout != 0 ? (uint64_t)r->idle_timeout : SSH_IDLE_S);
	number(r->name, "request_timeout", r->request_timeout != 0 ? (uint64_t)r->request_timeout : SSH_REQUEST_S);
	if (r->max_parallel != 0)
		number(r->name, "max_parallel", (uint64_t)r->max_parallel);
	else
		text(r->name, "max_parallel", NULL);
	number(r->name, "parallel", r->parallel != 0 ? (uint64_t)r->parallel : CONF_PARALLEL);
	number(r->name, "read_back", r->read_back != -1 ? (uint64_t)r->read_back : CONF_READ_BACK);
}

static void
hooks(const char *job, const struct conf_hooks *h)
{
	static const char *const keys[] = { "hooks.before_job", "hooks.after_job", "hooks.before_domain", "hooks.after_domain" };
	size_t given = 0;

	for (int i = 0; i < CONF_HOOKS; i++) {
		text(job, keys[i], h->command[i]);
		given += h->command[i] != NULL;
	}
	number(job, "hooks.timeout", (uint64_t)h->timeout);
	array(job, "hooks", given);
}

static void
keep(const char *job, const struct conf_keep *k)
{
	number(job, "keep.last", (uint64_t)k->last);
	number(job, "keep.hourly", (uint64_t)k->hourly);
	number(job, "keep.daily", (uint64_t)k->daily);
	number(job, "keep.weekly", (uint64_t)k->weekly);
	number(job, "keep.monthly", (uint64_t)k->monthly);
	number(job, "keep.yearly", (uint64_t)k->yearly);
	text(job, "keep.within", k->within);
}

static void
job_source(const struct conf_job *j)
{
	static const char *const capture[] = { "auto", "backup", "snapshot", "offline" };
	static const char *const quiesce[] = { "try", "required", "never" };

	text(j->name, "connection", j->connection);
	array(j->name, "domains", j->domains.n);
	array(j->name, "exclude", j->exclude.n);
	array(j->name, "exclude_disks", j->exclude_disks.n);
	text(j->name, "capture", capture[j->capture]);
	text(j->name, "quiesce", quiesce[j->quiesce]);
	number(j->name, "quiesce_timeout", (uint64_t)j->quiesce_timeout);
	array(j->name, "no_quiesce", j->no_quiesce.n);
	text(j->name, "scratch", j->scratch);
	number(j->name, "scratch_max", j->scratch_max);
	array(j->name, "images", j->images.n);
	text(j->name, "in_use", j->in_use_allow ? "allow" : "refuse");
	text(j->name, "from", j->from != NULL ? j->from->name : NULL);
}

static void
job(const struct conf_job *j)
{
	static const char *const codec[] = { "none", "bzip2", "xz", "zstd" };

	text(j->name, "name", j->name);
	job_source(j);
	text(j->name, "repository", j->repository->name);
	array(j->name, "replicate", j->nreplicate);
	printf("%s.compression = \"%s:%d\"\n", j->name, codec[j->compression.codec], j->compression.level);
	truth(j->name, "incremental", j->incremental);
	text(j->name, "schedule", j->schedule);
	text(j->name, "full", j->full);
	array(j->name, "keep", j->keep_at.line != 0);
	keep(j->name, &j->keep);
	number(j->name, "random_delay", (uint64_t)j->random_delay);
	truth(j->name, "catch_up", j->catch_up);
	number(j->name, "retries", (uint64_t)j->retries);
	number(j->name, "retry_wait", (uint64_t)j->retry_wait);
	text(j->name, "window", j->window);
	text(j->name, "window_end", j->window_cancel ? "cancel" : "finish");
	number(j->name, "stall_timeout", (uint64_t)j->stall_timeout);
	number(j->name, "rate_limit", j->rate_limit);
	hooks(j->name, &j->hooks);
	text(j->name, "alert_after", j->alert_after);
}

static void
daemon_keys(const struct conf_daemon *d)
{
	static const char *const on_stop[] = { "cancel", "finish" };

	number("daemon", "max_parallel", (uint64_t)d->max_parallel);
	number("daemon", "stop_timeout", (uint64_t)d->stop_timeout);
	text("daemon", "on_stop", on_stop[d->on_stop]);
	number("daemon", "nice", (uint64_t)d->nice);
	truth("daemon", "idle_io", d->idle_io);
	number("daemon", "history", (uint64_t)d->history);
	text("daemon", "api_group", d->api_group);
	truth("daemon", "api_group_acts", d->api_group_acts);
}

int
main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct conf *c;

	if (argc != 2)
		return (2);
	if ((c = conf_load(argv[1], &err)) == NULL) {
		fprintf(stderr, "conf_values: %s\n", err.text);
		return (1);
	}
	for (size_t i = 0; i < c->nrepositories; i++)
		repository(&c->repositories[i]);
	for (size_t i = 0; i < c->njobs; i++)
		job(&c->jobs[i]);
	daemon_keys(&c->daemon);
	conf_free(c);
	return (0);
}
