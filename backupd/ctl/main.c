/* virt-backupctl: the command line. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../compacting.h"
#include "base/human.h"
#include "base/io.h"
#include "client.h"
#include "options.h"

#define CONFIG_DEFAULT	"/etc/openvirt-backup/backupd.conf"

#define COUNT_MAX	10000u		/* of --limit and --next, as the daemon takes it */

/* Without a letter. */
enum { OPTION_DRY_RUN = 256, OPTION_DIRECT, OPTION_JOB, OPTION_SAMPLE, OPTION_DOMAIN, OPTION_FULL, OPTION_WAIT, OPTION_WATCH, OPTION_LIMIT, OPTION_NEXT,
	OPTION_AGAINST_SOURCE, OPTION_FROM, OPTION_TO };

atomic_int interrupted;

static const struct command {
	const char	*name;
	int		(*run)(const struct options *);
	int		 least, most;		/* arguments */
	const char	*args;
	bool		 of_run;		/* its argument is a run */
	int		 options[4];		/* its own; those that all have are left out */
} commands[] = {
	{ "status", command_status, 0, 0, "no arguments", false, { OPTION_WATCH } },
	{ "jobs", command_jobs, 0, 0, "no arguments", false, { 0 } },
	{ "run", command_run, 1, 1, "JOB", false, { OPTION_DOMAIN, OPTION_FULL, OPTION_WAIT } },
	{ "cancel", command_cancel, 1, 1, "RUN", true, { 0 } },
	{ "history", command_history, 0, 0, "no arguments", false, { OPTION_JOB, OPTION_LIMIT } },
	{ "log", command_log, 1, 1, "RUN", true, { 0 } },
	{ "pause", command_pause, 0, 0, "no arguments", false, { 0 } },
	{ "resume", command_resume, 0, 0, "no arguments", false, { 0 } },
	{ "schedule", command_schedule, 0, 0, "no arguments", false, { OPTION_NEXT } },
	{ "notify-test", command_notify_test, 0, 0, "no arguments", false, { OPTION_JOB } },
	{ "prune", command_prune, 1, 1, "JOB", false, { OPTION_DRY_RUN } },
	{ "protect", command_protect, 1, 1, "POINT", false, { 0 } },
	{ "unprotect", command_unprotect, 1, 1, "POINT", false, { 0 } },
	{ "consolidate", command_consolidate, 1, 1, "POINT", false, { 0 } },
	{ "replicate", command_replicate, 0, 1, "a job, or --from and --to", false, { OPTION_FROM, OPTION_TO, OPTION_DOMAIN } },
	{ "verify", command_verify, 0, 1, "[POINT]", false, { OPTION_JOB, OPTION_SAMPLE, OPTION_AGAINST_SOURCE } },
};

#define NCOMMANDS	(sizeof(commands) / sizeof(commands[0]))

static const struct option longs[] = {
	{ "socket", required_argument, NULL, 's' }, { "repository", required_argument, NULL, 'r' }, { "config", required_argument, NULL, 'c' },
	{ "watch", no_argument, NULL, OPTION_WATCH }, { "domain", required_argument, NULL, OPTION_DOMAIN }, { "full", no_argument, NULL, OPTION_FULL },
	{ "wait", no_argument, NULL, OPTION_WAIT }, { "limit", required_argument, NULL, OPTION_LIMIT }, { "next", required_argument, NULL, OPTION_NEXT },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN }, { "job", required_argument, NULL, OPTION_JOB },
	{ "sample", required_argument, NULL, OPTION_SAMPLE }, { "against-source", no_argument, NULL, OPTION_AGAINST_SOURCE }, { "direct", no_argument, NULL, OPTION_DIRECT },
	{ "from", required_argument, NULL, OPTION_FROM }, { "to", required_argument, NULL, OPTION_TO },
	{ "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static void
usage(FILE *f)
{
	fprintf(f,
	    "Usage: virt-backupctl [OPTION...] status             jobs, what runs, how it went, and the space left\n"
	    "       virt-backupctl [OPTION...] jobs               the jobs, and when they are due\n"
	    "       virt-backupctl [OPTION...] run JOB            run it now\n"
	    "       virt-backupctl [OPTION...] cancel RUN         end a run, or take it from the queue\n"
	    "       virt-backupctl [OPTION...] history            what runs did, the latest first\n"
	    "       virt-backupctl [OPTION...] log RUN            what a run said\n"
	    "       virt-backupctl [OPTION...] pause              start no scheduled runs any more\n"
	    "       virt-backupctl [OPTION...] resume             start them again\n"
	    "       virt-backupctl [OPTION...] schedule           the next runs of all jobs\n"
	    "       virt-backupctl [OPTION...] notify-test        try each way to notify people, and say what came of it\n"
	    "       virt-backupctl [OPTION...] prune JOB          let go of the points that the job's \"keep\" no longer keeps\n"
	    "       virt-backupctl [OPTION...] protect POINT      never prune it\n"
	    "       virt-backupctl [OPTION...] unprotect POINT    prune it when its time comes\n"
	    "       virt-backupctl [OPTION...] consolidate POINT  make it a full archive, which stock tar restores\n"
	    "       virt-backupctl [OPTION...] replicate [JOB]    copy points to other repositories, as the job says, or --from R --to R\n"
	    "       virt-backupctl [OPTION...] verify [POINT]     check all points, or one, and say which are damaged\n"
	    "\n"
	    "POINT is VM@latest, VM@2026-11-22T01:30:00Z, or VM@ and the beginning of a time.  RUN is a number.\n"
	    "\n"
	    "  -s, --socket PATH      where the daemon listens (%s)\n"
	    "      --watch            status: again every two seconds\n"
	    "      --domain DOMAIN    run, replicate: this machine alone\n"
	    "      --full             run: read and store everything\n"
	    "      --wait             run: until it has ended; exit 1 if it fails\n"
	    "      --job JOB          history: only runs of this job; verify: only its points; notify-test: as if of this job\n"
	    "      --limit N          history: so many at most (100)\n"
	    "      --next N           schedule: so many (10)\n"
	    "\n"
	    "  -r, --repository R     a folder, sftp://..., or the name of a configured repository (default: the job's, or the first one)\n"
	    "  -c, --config FILE      the configuration (%s)\n"
	    "      --from R           replicate: all points of this repository ...\n"
	    "      --to R             replicate: ... to this one\n"
	    "      --dry-run          prune: only say what would go, and why the others stay\n"
	    "      --against-source   verify: compare the point with the images that it was made of\n"
	    "      --sample PERCENT   verify: a random share of each archive only\n"
	    "      --direct           prune, protect, unprotect, consolidate, replicate, verify: without the daemon (always so in this version)\n"
	    "\n"
	    "  -j, --json             print JSON\n"
	    "  -h, --help             this text\n"
	    "  -V, --version          the version\n"
	    "\n"
	    "Exit status: 0 done, 1 failed or damaged, 2 wrong usage.\n", CLIENT_SOCKET, CONFIG_DEFAULT);
}

int
ctl_error(struct err *err)
{
	fprintf(stderr, "virt-backupctl: %s\n", human_safe(err->text));
	return (EXIT_FAILED);
}

void
ctl_print_json(json_t *o, size_t flags)
{
	if (o != NULL && json_dumpf(o, stdout, flags | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12)) == 0)
		putchar('\n');
	fflush(stdout);
	json_decref(o);
}

struct compact_how
ctl_compact_how(const struct options *o, struct compacting *shown)
{
	struct compact_how how = compacting_begin(shown, "virt-backupctl", o->json ? PROGRESS_NONE : PROGRESS_BAR);

	how.program = PROGRAM;
	how.wait_s = LOCK_WAIT_S;
	how.stop = &interrupted;
	return (how);
}

/* The first signal asks for a clean end, the second one ends at once: what is half done then, the next run ends. */
static void
on_signal(int sig)
{
	if (!interrupted) {
		interrupted = 1;
		return;
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

static void
catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int
parse_percent(const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	if (end != text && strcmp(end, "%") == 0)
		end++;
	if (end == text || *end != '\0' || !(*out > 0 && *out <= 100)) {
		fprintf(stderr, "virt-backupctl: --sample is more than 0 and at most 100 per cent, not \"%s\"\n", text);
		return (-1);
	}
	return (0);
}

static int
parse_count(const char *name, const char *text, unsigned int *out)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || v == 0 || v > COUNT_MAX) {
		fprintf(stderr, "virt-backupctl: --%s is a number from 1 to %u, not \"%s\"\n", name, COUNT_MAX, text);
		return (-1);
	}
	*out = (unsigned int)v;
	return (0);
}

/* An option that only some commands have.  Fails: -1, its value is no good. */
static int
set_own(struct options *o, int which)
{
	switch (which) {
	case OPTION_WATCH:
		o->watch = true;
		return (0);
	case OPTION_DOMAIN:
		o->domain = optarg;
		return (0);
	case OPTION_FULL:
		o->full = true;
		return (0);
	case OPTION_WAIT:
		o->wait = true;
		return (0);
	case OPTION_LIMIT:
		return (parse_count("limit", optarg, &o->limit));
	case OPTION_NEXT:
		return (parse_count("next", optarg, &o->next));
	case OPTION_DRY_RUN:
		o->dry_run = true;
		return (0);
	case OPTION_FROM:
		o->from = optarg;
		return (0);
	case OPTION_TO:
		o->to = optarg;
		return (0);
	case OPTION_AGAINST_SOURCE:
		o->against_source = true;
		return (0);
	case OPTION_JOB:
		o->job = optarg;
		return (0);
	default:
		return (parse_percent(optarg, &o->sample));
	}
}

/* Which of those were given. */
struct given {
	int	v[16];
	size_t	n;
};

static int
take_own(struct options *o, struct given *g, int which)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->v[i] == which)
			return (set_own(o, which));
	g->v[g->n++] = which;
	return (set_own(o, which));
}

/* Returns -1 to go on, else the exit status. */
static int
parse(int argc, char **argv, struct options *o, struct given *g)
{
	int ch;

	while ((ch = getopt_long(argc, argv, "s:r:c:jhV", longs, NULL)) != -1) {
		switch (ch) {
		case 's':
			o->socket = optarg;
			break;
		case 'r':
			o->repository = optarg;
			break;
		case 'c':
			o->config = optarg;
			break;
		case 'j':
			o->json = true;
			break;
		case OPTION_DIRECT:
			break;
		case 'h':
			usage(stdout);
			return (EXIT_DONE);
		case 'V':
			puts("virt-backupctl (openvirt-backup) " OVB_VERSION);
			return (EXIT_DONE);
		case '?':
			usage(stderr);
			return (EXIT_USAGE);
		default:
			if (take_own(o, g, ch) == -1)
				return (EXIT_USAGE);
		}
	}
	o->args = argv + optind;
	o->nargs = argc - optind;
	return (-1);
}

static const struct command *
find_command(struct options *o)
{
	if (o->nargs == 0) {
		fprintf(stderr, "virt-backupctl: say what to do\n");
		return (NULL);
	}
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, o->args[0]) == 0) {
			o->args++;
			o->nargs--;
			return (&commands[i]);
		}
	fprintf(stderr, "virt-backupctl: there is no command \"%s\"\n", o->args[0]);
	return (NULL);
}

static const char *
option_name(int which)
{
	size_t i = 0;

	while (longs[i].name != NULL && longs[i].val != which)
		i++;
	return (longs[i].name);
}

static bool
has_option(const struct command *c, int which)
{
	for (size_t i = 0; i < sizeof(c->options) / sizeof(c->options[0]); i++)
		if (c->options[i] == which)
			return (true);
	return (false);
}

static int
check_arguments(const struct command *c, struct options *o, const struct given *g)
{
	char *end;

	if (o->nargs < c->least || o->nargs > c->most) {
		fprintf(stderr, "virt-backupctl: %s takes %s\n", c->name, c->args);
		return (-1);
	}
	for (size_t i = 0; i < g->n; i++)
		if (!has_option(c, g->v[i])) {
			fprintf(stderr, "virt-backupctl: --%s does not belong to %s\n", option_name(g->v[i]), c->name);
			return (-1);
		}
	if (c->run == command_replicate && (o->nargs == 0 ? o->from == NULL || o->to == NULL : o->from != NULL || o->to != NULL)) {
		fprintf(stderr, "virt-backupctl: replicate takes a job, or --from and --to\n");
		return (-1);
	}
	if (o->against_source && (o->nargs == 0 || o->sample < 100)) {
		fprintf(stderr, "virt-backupctl: verify --against-source takes a point, and no --sample\n");
		return (-1);
	}
	if (c->run == command_verify && o->job != NULL && o->nargs > 0) {
		fprintf(stderr, "virt-backupctl: verify takes a point or --job, not both\n");
		return (-1);
	}
	if (c->of_run) {
		errno = 0;
		o->run = strtoll(o->args[0], &end, 10);
		if (errno != 0 || o->args[0][0] < '0' || o->args[0][0] > '9' || *end != '\0') {
			fprintf(stderr, "virt-backupctl: a run is a number, as status and history show it, not \"%s\"\n", o->args[0]);
			return (-1);
		}
	}
	return (0);
}

int
main(int argc, char **argv)
{
	struct options o = { .config = CONFIG_DEFAULT, .sample = 100, .limit = 100, .next = 10 };
	const struct command *c;
	struct given g = { .n = 0 };
	int rc;

	io_keep_std();
	if ((rc = parse(argc, argv, &o, &g)) != -1)
		return (rc);
	if ((c = find_command(&o)) == NULL || check_arguments(c, &o, &g) == -1) {
		usage(stderr);
		return (EXIT_USAGE);
	}
	umask(077);
	catch_signals();
	return (c->run(&o));
}
