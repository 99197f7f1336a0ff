/* virt-restore: the command line. */
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "options.h"

enum { OPTION_DEFINE = 256, OPTION_START, OPTION_CONNECT, OPTION_DRY_RUN };	/* without a letter */

#define CONFIG_DEFAULT	"/etc/openvirt-backup/backupd.conf"

atomic_int interrupted;
static const char *volatile left_behind;

static const struct command {
	const char	*name;
	int		(*run)(const struct options *);
	int		 least, most;		/* arguments */
	bool		 point_first;		/* its first argument is a point: may be left out with --archive */
	const char	*args;
} commands[] = {
	{ "list", command_list, 0, 1, false, "[VM]" },
	{ "show", command_show, 1, 1, true, "POINT" },
	{ "disk", command_disk, 3, 3, true, "POINT DISK TARGET" },
	{ "file", command_file, 2, 3, true, "POINT NAME [TARGET]" },
	{ "vm", command_vm, 1, 1, true, "POINT" },
	{ "verify", command_verify, 1, 1, true, "POINT" },
	{ "export", command_export, 2, 2, true, "POINT FILE" },
};

#define NCOMMANDS	(sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *f)
{
	fprintf(f,
	    "Usage: virt-restore [OPTION...] list [VM]                       restore points\n"
	    "       virt-restore [OPTION...] show POINT                      what is in one\n"
	    "       virt-restore [OPTION...] disk POINT DISK TARGET          write a disk\n"
	    "       virt-restore [OPTION...] file POINT NAME [TARGET]        write a file that was saved with it: domain.xml ...\n"
	    "       virt-restore [OPTION...] vm POINT                        write a whole machine: disks, NVRAM, TPM state, XML\n"
	    "       virt-restore [OPTION...] verify POINT                    check all of it\n"
	    "       virt-restore [OPTION...] export POINT FILE               write a tar file that needs nothing else\n"
	    "\n"
	    "POINT is VM@latest, VM@2026-11-22T01:30:00Z, or VM@ and the beginning of a time.  TARGET is a file, a block device,\n"
	    "or nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH.  FILE ends in .tar, .tar.bz2, .tar.xz or .tar.zst;\n"
	    "- is standard output, not compressed.  NAME is one that show lists; its TARGET is a file or - (the default).\n"
	    "\n"
	    "  -r, --repository R   a folder, sftp://..., or the name of a configured repository (default: the first one)\n"
	    "  -a, --archive FILE   a bare archive instead of a repository; POINT is then left out\n"
	    "  -c, --config FILE    the configuration (%s)\n"
	    "  -F, --format FORMAT  of a TARGET file: raw (the default; of vm: as it was) or qcow2\n"
	    "  -k, --keep-going     disk: save what is good, list what is not, and exit 1\n"
	    "  -n, --name NAME      vm: restore it as another machine: with a new UUID and new MAC addresses\n"
	    "  -d, --directory DIR  vm: write everything into this folder (default: where it was)\n"
	    "      --define         vm: define the machine through libvirt\n"
	    "      --start          vm: define and start it\n"
	    "      --connect URI    vm: which libvirt (qemu:///system)\n"
	    "      --dry-run        vm: only say what would be written where\n"
	    "  -f, --force          overwrite what exists\n"
	    "  -j, --json           print JSON\n"
	    "  -h, --help           this text\n"
	    "  -V, --version        the version\n"
	    "\n"
	    "Exit status: 0 done, 1 failed or damaged, 2 wrong usage.\n", CONFIG_DEFAULT);
}

void
leave_behind(const char *text)
{
	left_behind = text;
}

/* The first signal asks for a clean end, the second one ends at once, and says what it leaves.  Only async-signal-safe calls. */
static void
on_signal(int sig)
{
	static const char name[] = "\nvirt-restore: stopped at once: ";
	const char *text = left_behind;

	if (!interrupted) {
		interrupted = 1;
		return;
	}
	if (text == NULL)
		text = "nothing is left behind";
	if (write(STDERR_FILENO, name, sizeof(name) - 1) == -1 || write(STDERR_FILENO, text, strlen(text)) == -1 ||
	    write(STDERR_FILENO, "\n", 1) == -1)
		_exit(EXIT_FAILED);
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

/* Returns whether ${ch} is an option of vm. */
static bool
parse_vm(int ch, struct options *o)
{
	switch (ch) {
	case 'n':
		o->name = optarg;
		return (true);
	case 'd':
		o->directory = optarg;
		return (true);
	case OPTION_CONNECT:
		o->connect = optarg;
		return (true);
	case OPTION_DEFINE:
		return (o->define = true);
	case OPTION_START:
		return (o->start = true);
	case OPTION_DRY_RUN:
		return (o->dry_run = true);
	default:
		return (false);
	}
}

/* Returns -1 to go on, else the exit status. */
static int
parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "repository", required_argument, NULL, 'r' }, { "archive", required_argument, NULL, 'a' }, { "config", required_argument, NULL, 'c' },
		{ "format", required_argument, NULL, 'F' }, { "keep-going", no_argument, NULL, 'k' }, { "force", no_argument, NULL, 'f' },
		{ "name", required_argument, NULL, 'n' }, { "directory", required_argument, NULL, 'd' },
		{ "define", no_argument, NULL, OPTION_DEFINE }, { "start", no_argument, NULL, OPTION_START },
		{ "connect", required_argument, NULL, OPTION_CONNECT }, { "dry-run", no_argument, NULL, OPTION_DRY_RUN },
		{ "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 },
	};
	int ch;

	while ((ch = getopt_long(argc, argv, "r:a:c:F:kn:d:fjhV", longs, NULL)) != -1) {
		switch (ch) {
		case 'r':
			o->repository = optarg;
			break;
		case 'a':
			o->archive = optarg;
			break;
		case 'c':
			o->config = optarg;
			break;
		case 'F':
			o->format = optarg;
			break;
		case 'k':
			o->keep_going = true;
			break;
		case 'f':
			o->force = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			usage(stdout);
			return (EXIT_DONE);
		case 'V':
			puts("virt-restore (openvirt-backup) " OVB_VERSION);
			return (EXIT_DONE);
		default:
			if (parse_vm(ch, o))
				break;
			usage(stderr);
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
		fprintf(stderr, "virt-restore: say what to do\n");
		return (NULL);
	}
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, o->args[0]) == 0) {
			o->args++;
			o->nargs--;
			return (&commands[i]);
		}
	fprintf(stderr, "virt-restore: there is no command \"%s\"\n", o->args[0]);
	return (NULL);
}

static int
check_arguments(const struct command *c, struct options *o)
{
	static char none[] = "";
	static char *with_point[4] = { none };

	if (o->archive != NULL && o->repository != NULL) {
		fprintf(stderr, "virt-restore: --archive and --repository exclude each other\n");
		return (-1);
	}
	if (o->format != NULL && strcmp(o->format, "raw") != 0 && strcmp(o->format, "qcow2") != 0) {
		fprintf(stderr, "virt-restore: --format is raw or qcow2, not \"%s\"\n", o->format);
		return (-1);
	}
	if (c->run != command_vm && (o->name != NULL || o->directory != NULL || o->connect != NULL || o->define || o->start || o->dry_run)) {
		fprintf(stderr, "virt-restore: --name, --directory, --define, --start, --connect and --dry-run belong to vm\n");
		return (-1);
	}
	if (o->keep_going && c->run != command_disk) {
		fprintf(stderr, "virt-restore: --keep-going belongs to disk: %s\n", c->run == command_verify ? "verify lists all damage in any case"
		    : "nothing is left out elsewhere");
		return (-1);
	}
	/* With an archive the point is left out, but may be given where the number of arguments tells. */
	if (o->archive != NULL && c->point_first && o->nargs < c->most) {
		memcpy(with_point + 1, o->args, (size_t)o->nargs * sizeof(*o->args));
		o->args = with_point;
		o->nargs++;
	}
	if (o->nargs < c->least || o->nargs > c->most) {
		fprintf(stderr, "virt-restore: %s takes %s\n", c->name, c->args);
		return (-1);
	}
	return (0);
}

int
main(int argc, char **argv)
{
	struct options o = { .config = CONFIG_DEFAULT };
	const struct command *c;
	int rc;

	io_keep_std();
	if ((rc = parse(argc, argv, &o)) != -1)
		return (rc);
	if ((c = find_command(&o)) == NULL || check_arguments(c, &o) == -1) {
		usage(stderr);
		return (EXIT_USAGE);
	}
	/* What is restored may hold secrets: only its owner reads it. */
	umask(077);
	catch_signals();
	return (c->run(&o));
}
