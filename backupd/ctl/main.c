/* virt-backupctl: the command line. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "human.h"
#include "options.h"

#define CONFIG_DEFAULT	"/etc/openvirt-backup/backupd.conf"

enum { OPTION_DRY_RUN = 256, OPTION_DIRECT, OPTION_JOB, OPTION_SAMPLE };	/* without a letter */

volatile sig_atomic_t interrupted;

static const struct command {
	const char	*name;
	int		(*run)(const struct options *);
	int		 least, most;		/* arguments */
	const char	*args;
} commands[] = {
	{ "prune", command_prune, 1, 1, "JOB" },
	{ "protect", command_protect, 1, 1, "POINT" },
	{ "unprotect", command_unprotect, 1, 1, "POINT" },
	{ "verify", command_verify, 0, 1, "[POINT]" },
};

#define NCOMMANDS	(sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *f)
{
	fprintf(f,
	    "Usage: virt-backupctl [OPTION...] prune JOB          let go of the points that the job's \"keep\" no longer keeps\n"
	    "       virt-backupctl [OPTION...] protect POINT      never prune it\n"
	    "       virt-backupctl [OPTION...] unprotect POINT    prune it when its time comes\n"
	    "       virt-backupctl [OPTION...] verify [POINT]     check all points, or one, and say which are damaged\n"
	    "\n"
	    "POINT is VM@latest, VM@2026-11-22T01:30:00Z, or VM@ and the beginning of a time.\n"
	    "\n"
	    "  -r, --repository R     a folder, sftp://..., or the name of a configured repository (default: the job's, or the first one)\n"
	    "  -c, --config FILE      the configuration (%s)\n"
	    "      --dry-run          prune: only say what would go, and why the others stay\n"
	    "      --job JOB          verify: only points of this job\n"
	    "      --sample PERCENT   verify: a random share of each archive only\n"
	    "      --direct           work on the repository itself, not through the daemon (always so in this version)\n"
	    "  -j, --json             print JSON\n"
	    "  -h, --help             this text\n"
	    "  -V, --version          the version\n"
	    "\n"
	    "Exit status: 0 done, 1 failed or damaged, 2 wrong usage.\n", CONFIG_DEFAULT);
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
	if (o != NULL && json_dumpf(o, stdout, flags | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	fflush(stdout);
	json_decref(o);
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

/* Returns -1 to go on, else the exit status. */
static int
parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "repository", required_argument, NULL, 'r' }, { "config", required_argument, NULL, 'c' },
		{ "dry-run", no_argument, NULL, OPTION_DRY_RUN }, { "job", required_argument, NULL, OPTION_JOB },
		{ "sample", required_argument, NULL, OPTION_SAMPLE }, { "direct", no_argument, NULL, OPTION_DIRECT },
		{ "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	const char *sample = NULL;
	int ch;

	while ((ch = getopt_long(argc, argv, "r:c:jhV", longs, NULL)) != -1) {
		switch (ch) {
		case 'r':
			o->repository = optarg;
			break;
		case 'c':
			o->config = optarg;
			break;
		case 'j':
			o->json = true;
			break;
		case OPTION_DRY_RUN:
			o->dry_run = true;
			break;
		case OPTION_JOB:
			o->job = optarg;
			break;
		case OPTION_SAMPLE:
			sample = optarg;
			break;
		case OPTION_DIRECT:
			break;
		case 'h':
			usage(stdout);
			return (EXIT_DONE);
		case 'V':
			puts("virt-backupctl (openvirt-backup) " OVB_VERSION);
			return (EXIT_DONE);
		default:
			usage(stderr);
			return (EXIT_USAGE);
		}
	}
	if (sample != NULL && parse_percent(sample, &o->sample) == -1)
		return (EXIT_USAGE);
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

static int
check_arguments(const struct command *c, const struct options *o)
{
	if (o->nargs < c->least || o->nargs > c->most) {
		fprintf(stderr, "virt-backupctl: %s takes %s\n", c->name, c->args);
		return (-1);
	}
	if (o->dry_run && c->run != command_prune) {
		fprintf(stderr, "virt-backupctl: --dry-run belongs to prune\n");
		return (-1);
	}
	if ((o->job != NULL || o->sample < 100) && c->run != command_verify) {
		fprintf(stderr, "virt-backupctl: --job and --sample belong to verify\n");
		return (-1);
	}
	if (o->job != NULL && o->nargs > 0) {
		fprintf(stderr, "virt-backupctl: verify takes a point or --job, not both\n");
		return (-1);
	}
	return (0);
}

int
main(int argc, char **argv)
{
	struct options o = { .config = CONFIG_DEFAULT, .sample = 100 };
	const struct command *c;
	int rc;

	if ((rc = parse(argc, argv, &o)) != -1)
		return (rc);
	if ((c = find_command(&o)) == NULL || check_arguments(c, &o) == -1) {
		usage(stderr);
		return (EXIT_USAGE);
	}
	umask(077);
	catch_signals();
	return (c->run(&o));
}
