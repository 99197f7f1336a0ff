#include <stdlib.h>
#include <string.h>

#include "calendar/calendar.h"
#include "calendar/span.h"
#include "config/conf_list.h"

#define LIST		"a list of groups like ( { name = \"images\"; images = [ \"/srv/images/*.img\" ]; } )"
#define DOMAINS		(1u << CONF_SOURCE_DOMAINS)
#define IMAGES		(1u << CONF_SOURCE_IMAGES)
#define FROM		(1u << CONF_SOURCE_FROM)
#define ANY		(DOMAINS | IMAGES | FROM)
#define CONNECTION	"qemu:///system"
#define QUIESCE_TIMEOUT	10	/* seconds */

/* The keys of a job, the three sources first and in the order of enum conf_source, and the kinds of job that have them. */
static const char *const job_keys[] = { "domains", "images", "from", "name", "connection", "exclude", "exclude_disks",
    "capture", "quiesce", "quiesce_timeout", "no_quiesce", "scratch", "scratch_max", "in_use", "incremental",
    "repository", "replicate", "compression", "schedule", "full", "keep",
    "random_delay", "catch_up", "retries", "retry_wait", "window", "stall_timeout", "window_end", "rate_limit",
    "hooks", "alert_after", NULL };
static const unsigned int job_kinds[] = { DOMAINS, IMAGES, FROM, ANY, DOMAINS, DOMAINS, DOMAINS,
    DOMAINS, DOMAINS, DOMAINS, DOMAINS, DOMAINS, DOMAINS, IMAGES, DOMAINS | IMAGES,
    ANY, ANY, ANY, ANY, ANY, ANY,
    ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY,
    ANY, ANY };

static const struct conf_repository *
named_repository(const struct conf_text *t, const config_setting_t *s, const struct conf *c, struct err *err)
{
	const struct conf_repository *r = NULL;
	char *name = NULL;

	if (conf_get_text(t, s, &name, err) == 0 && (r = conf_find_repository(c, name)) == NULL)
		conf_fail(t, s, err, "\"%.100s\" is not the name of a repository: see the list \"repositories\"", name);
	free(name);
	return (r);
}

/* What kind of job this is, and that it has no key of another kind. */
static int
job_source(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err)
{
	const config_setting_t *s, *source = NULL;
	size_t k;

	for (k = 0; k <= CONF_SOURCE_FROM; k++) {
		if ((s = config_setting_get_member(group, job_keys[k])) == NULL)
			continue;
		if (source != NULL)
			return (conf_fail(t, s, err, "the job already has %s: a job has one of domains, images and from",
			    config_setting_name(source)));
		source = s;
		j->source = (enum conf_source)k;
	}
	if (source == NULL)
		return (conf_fail(t, group, err, "has nothing to back up: add one of domains, images and from"));
	for (k = 0; job_keys[k] != NULL; k++) {
		if ((job_kinds[k] & (1u << j->source)) == 0 && (s = config_setting_get_member(group, job_keys[k])) != NULL)
			return (conf_fail(t, s, err, "only a job with %s has it, and this one has %s: remove it",
			    job_kinds[k] == DOMAINS ? "domains" : job_kinds[k] == IMAGES ? "images" : "domains or images", config_setting_name(source)));
	}
	return (0);
}

/* Which disks to leave out.  Neither a domain's name nor a disk's target has a slash. */
static int
job_exclude_disks(const struct conf_text *t, const config_setting_t *group, struct conf_strings *out, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, "exclude_disks");
	const char *v, *slash;
	size_t i;

	if (conf_get_strings(t, group, "exclude_disks", out, err) == -1)
		return (-1);
	for (i = 0; i < out->n; i++) {
		v = out->v[i];
		if ((slash = strchr(v, '/')) == NULL)
			continue;
		if (slash == v || slash[1] == '\0' || strchr(slash + 1, '/') != NULL)
			return (conf_fail(t, config_setting_get_elem(s, (unsigned int)i), err,
			    "\"%.100s\": expected TARGET or DOMAIN/TARGET, like \"vdb\" or \"web*/vdb\"", v));
	}
	return (0);
}

static int
job_quiesce(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err)
{
	static const char *const quiesce[] = { "try", "required", "never", NULL };
	int choice = CONF_QUIESCE_TRY;

	j->quiesce_timeout = QUIESCE_TIMEOUT;
	if (conf_get_choice(t, group, "quiesce", quiesce, &choice, err) == -1 ||
	    conf_get_int(t, group, "quiesce_timeout", 1, CONF_MAX_QUIESCE, &j->quiesce_timeout, err) == -1 ||
	    conf_get_strings(t, group, "no_quiesce", &j->no_quiesce, err) == -1)
		return (-1);
	j->quiesce = (enum conf_quiesce)choice;
	return (0);
}

static int
job_domains(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err)
{
	static const char *const capture[] = { "auto", "backup", "snapshot", "offline", NULL };
	int choice = CONF_CAPTURE_AUTO;

	if (conf_get_strings(t, group, "domains", &j->domains, err) == -1 ||
	    conf_get_strings(t, group, "exclude", &j->exclude, err) == -1 ||
	    conf_get_string(t, group, "connection", &j->connection, err) == -1 ||
	    job_exclude_disks(t, group, &j->exclude_disks, err) == -1 ||
	    conf_get_choice(t, group, "capture", capture, &choice, err) == -1 ||
	    job_quiesce(t, group, j, err) == -1 ||
	    conf_get_path(t, group, "scratch", &j->scratch, err) == -1 ||
	    conf_get_size(t, group, "scratch_max", CONF_MIN_SCRATCH, &j->scratch_max, err) == -1)
		return (-1);
	j->capture = (enum conf_capture)choice;
	if (j->source == CONF_SOURCE_DOMAINS && j->connection == NULL && (j->connection = strdup(CONNECTION)) == NULL)
		return (err_nomem(err));
	return (0);
}

static int
job_images(const struct conf_text *t, const config_setting_t *group, struct conf_job *j, struct err *err)
{
	static const char *const in_use[] = { "refuse", "allow", NULL };
	const config_setting_t *s = config_setting_get_member(group, "images");
	size_t i;

	if (conf_get_strings(t, group, "images", &j->images, err) == -1 ||
	    conf_get_choice(t, group, "in_use", in_use, &j->in_use_allow, err) == -1)
		return (-1);
	for (i = 0; i < j->images.n; i++) {
		if (j->images.v[i][0] != '/')
			return (conf_fail(t, config_setting_get_elem(s, (unsigned int)i), err,
			    "\"%.100s\": expected an absolute path or pattern", j->images.v[i]));
	}
	return (0);
}

static int
job_replicate(const struct conf_text *t, const config_setting_t *s, const struct conf *c, struct conf_job *j, struct err *err)
{
	const struct conf_repository *r;
	const config_setting_t *e;
	unsigned int i;
	size_t k;

	if (!config_setting_is_array(s))
		return (conf_mistyped(t, s, "an array of repository names like [ \"offsite\" ]", err));
	if (config_setting_length(s) == 0)
		return (conf_fail(t, s, err, "the array is empty: put the name of a repository into it or remove the key"));
	if ((j->replicate = calloc((size_t)config_setting_length(s), sizeof(*j->replicate))) == NULL)
		return (err_nomem(err));
	for (i = 0; (e = config_setting_get_elem(s, i)) != NULL; i++) {
		if ((r = named_repository(t, e, c, err)) == NULL)
			return (-1);
		if (r == j->repository || r == j->from)
			return (conf_fail(t, e, err, "\"%s\" is the repository that the job %s: name another", r->name,
			    r == j->repository ? "writes to" : "reads from"));
		for (k = 0; k < j->nreplicate; k++) {
			if (j->replicate[k] == r)
				return (conf_fail(t, e, err, "\"%s\" is named twice: remove one", r->name));
		}
		j->replicate[j->nreplicate++] = r;
	}
	return (0);
}

static int
job_repositories(const struct conf_text *t, const config_setting_t *group, const struct conf *c, struct conf_job *j,
    struct err *err)
{
	const config_setting_t *s;

	j->repository = &c->repositories[0];
	if ((s = config_setting_get_member(group, "repository")) != NULL &&
	    (j->repository = named_repository(t, s, c, err)) == NULL)
		return (-1);
	if ((s = config_setting_get_member(group, "from")) != NULL) {
		if ((j->from = named_repository(t, s, c, err)) == NULL)
			return (-1);
		if (j->from == j->repository)
			return (conf_fail(t, s, err,
			    "\"%s\" is also the repository that the job writes to: set repository to another", j->from->name));
	}
	if ((s = config_setting_get_member(group, "replicate")) != NULL)
		return (job_replicate(t, s, c, j, err));
	return (0);
}

static int
job_keep(const struct conf_text *t, const config_setting_t *s, struct conf_keep *k, struct err *err)
{
	static const char *const known[] = { "last", "hourly", "daily", "weekly", "monthly", "yearly", "within", NULL };
	int *const counts[] = { &k->last, &k->hourly, &k->daily, &k->weekly, &k->monthly, &k->yearly };
	struct err why = ERR_INIT;
	struct span span;
	int any = 0;
	size_t i;

	if (s == NULL)
		return (0);
	if (!config_setting_is_group(s))
		return (conf_mistyped(t, s, "a group like { last = 3; daily = 7; }", err));
	if (conf_known_keys(t, s, known, err) == -1 || conf_get_string(t, s, "within", &k->within, err) == -1)
		return (-1);
	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if (conf_get_int(t, s, known[i], 0, CONF_MAX_KEEP, counts[i], err) == -1)
			return (-1);
		any |= *counts[i];
	}
	if (k->within != NULL && span_parse(k->within, &span, &why) == -1)
		return (conf_fail(t, config_setting_get_member(s, "within"), err, "%s", why.text));
	/* Taken at its word, it would delete each backup as soon as it is made. */
	if (any == 0 && k->within == NULL)
		return (conf_fail(t, s, err, "keeps nothing: set a count in it above 0, or remove it to keep all"));
	return (0);
}

static int
job_compression(const struct conf_text *t, const config_setting_t *group, struct compression *out, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, "compression");
	struct err why = ERR_INIT;
	char *text = NULL;
	int rc;

	*out = (struct compression)COMPRESSION_DEFAULT;
	if (s == NULL)
		return (0);
	if (conf_get_text(t, s, &text, err) == -1)
		return (-1);
	if ((rc = compression_parse(text, out, &why)) == -1)
		conf_fail(t, s, err, "%s", why.text);
	free(text);
	return (rc);
}

/* A calendar event that comes at some time, be it past. */
static int
job_event(const struct conf_text *t, const config_setting_t *group, const char *key, char **out, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);
	struct err why = ERR_INIT;
	struct calendar *c;
	time_t first;
	int rc = 0;

	if (s == NULL)
		return (0);
	if (conf_get_text(t, s, out, err) == -1)
		return (-1);
	if ((c = calendar_parse(*out, &why)) == NULL)
		return (conf_fail(t, s, err, "%s", why.text));
	if (!calendar_next(c, -2 * 86400, &first))
		rc = conf_fail(t, s, err, "\"%.100s\" never comes: in full, it is \"%.100s\"", *out, calendar_text(c));
	calendar_free(c);
	return (rc);
}

static int
job(const struct conf_text *t, const config_setting_t *group, const struct conf *c, struct conf_job *j, struct err *err)
{
	if (!config_setting_is_group(group))
		return (conf_mistyped(t, group, "a group like { name = \"images\"; images = [ \"/srv/images/*.img\" ]; }", err));
	j->incremental = 1;
	j->where = conf_text_where(t, (int)config_setting_source_line(group));
	j->schedule_at = conf_place(t, group, "schedule");
	j->keep_at = conf_place(t, group, "keep");
	j->replicate_at = conf_place(t, group, "replicate");
	j->full_at = conf_place(t, group, "full");
	if (conf_known_keys(t, group, job_keys, err) == -1 ||
	    conf_get_name(t, group, &j->name, err) == -1 ||
	    job_source(t, group, j, err) == -1 ||
	    job_domains(t, group, j, err) == -1 ||
	    job_images(t, group, j, err) == -1 ||
	    job_repositories(t, group, c, j, err) == -1 ||
	    job_compression(t, group, &j->compression, err) == -1 ||
	    conf_get_bool(t, group, "incremental", &j->incremental, err) == -1 ||
	    conf_get_size(t, group, "rate_limit", CONF_MIN_RATE, &j->rate_limit, err) == -1 ||
	    job_keep(t, config_setting_get_member(group, "keep"), &j->keep, err) == -1 ||
	    job_event(t, group, "schedule", &j->schedule, err) == -1 ||
	    job_event(t, group, "full", &j->full, err) == -1 ||
	    conf_job_daemon(t, group, j, err) == -1 ||
	    conf_job_hooks(t, group, j, err) == -1)
		return (-1);
	return (0);
}

int
conf_jobs(const struct conf_text *t, const config_setting_t *root, struct conf *c, struct err *err)
{
	const config_setting_t *list = config_setting_get_member(root, "jobs");
	const config_setting_t *group;
	const struct conf_job *twin;
	int i, n;

	if (list == NULL)
		return (0);
	if (!config_setting_is_list(list))
		return (conf_mistyped(t, list, LIST, err));
	if ((n = config_setting_length(list)) == 0)
		return (0);
	if ((c->jobs = calloc((size_t)n, sizeof(*c->jobs))) == NULL)
		return (err_nomem(err));
	for (i = 0; i < n; i++) {
		struct conf_job *j = &c->jobs[i];

		group = config_setting_get_elem(list, (unsigned int)i);
		if (job(t, group, c, j, err) == -1) {
			conf_job_free(j);
			return (-1);
		}
		twin = conf_find_job(c, j->name);
		c->njobs++;
		if (twin != NULL)
			return (conf_fail(t, config_setting_get_member(group, "name"), err,
			    "\"%s\" is also the name of the job at %s:%d: choose another",
			    j->name, twin->where.file, twin->where.line));
	}
	return (0);
}

void
conf_job_free(struct conf_job *j)
{
	free(j->name);
	free(j->connection);
	conf_strings_free(&j->domains);
	conf_strings_free(&j->exclude);
	conf_strings_free(&j->exclude_disks);
	conf_strings_free(&j->no_quiesce);
	free(j->scratch);
	conf_strings_free(&j->images);
	free(j->replicate);
	free(j->schedule);
	free(j->full);
	free(j->keep.within);
	free(j->window);
	conf_job_hooks_free(j);
	*j = (struct conf_job){ .name = NULL };
}
