/* virt-backupd: the command line. */
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/socket.h"
#include "base/human.h"
#include "base/io.h"
#include "config/conf.h"
#include "daemon/daemon.h"
#include "domains.h"
#include "earlier.h"
#include "freeze.h"
#include "freeze_guard.h"
#include "images.h"
#include "notify/notify.h"
#include "run_job.h"
#include "run_outcome.h"
#include "run_result.h"

#define CONFIG_DEFAULT	"/etc/openvirt-backup/backupd.conf"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static atomic_int interrupted;

struct options {
	const char	*config, *once, *domain;
	bool		 check, reconcile, json, full, reread;
};

static void
usage(FILE *f)
{
	fprintf(f,
	    "Usage: virt-backupd [--config FILE]\n"
	    "       virt-backupd [--config FILE] --once JOB [--domain NAME] [--full | --reread] [--json]\n"
	    "       virt-backupd [--config FILE] --check-config\n"
	    "       virt-backupd --reconcile\n"
	    "\n"
	    "Without --once, --check-config or --reconcile it is the daemon, in the foreground: it runs the jobs when their schedules say.\n"
	    "\n"
	    "  -c, --config FILE    the configuration (%s)\n"
	    "  -1, --once JOB       run JOB once, in the foreground\n"
	    "  -d, --domain NAME    with --once: only this machine of the job's\n"
	    "  -F, --full           with --once: read and store everything\n"
	    "  -e, --reread         with --once: compare also what is known not to have changed\n"
	    "  -n, --check-config   check the configuration, and what its jobs find\n"
	    "  -R, --reconcile      undo what an interrupted run left of a guest: frozen, on an overlay, with a backup job\n"
	    "  -j, --json           report events as lines of JSON\n"
	    "  -h, --help           this text\n"
	    "  -V, --version        the version\n"
	    "\n"
	    "Exit status: 0 done, 1 failed, 2 wrong usage.\n", CONFIG_DEFAULT);
}

static int
wrong_usage(const char *what)
{
	fprintf(stderr, "virt-backupd: %s\n", what);
	usage(stderr);
	return (EXIT_USAGE);
}

static int
stray_argument(const char *text)
{
	fprintf(stderr, "virt-backupd: \"%s\" belongs to no option\n", text);
	usage(stderr);
	return (EXIT_USAGE);
}

static int
failed(struct err *err)
{
	fprintf(stderr, "virt-backupd: %s\n", human_safe(err->text));
	return (EXIT_FAILED);
}

/* The first signal asks for a clean end, the second one ends at once, and says what it leaves.  Only async-signal-safe calls. */
static void
on_signal(int sig)
{
	static const char text[] = "\nvirt-backupd: stopped at once: the unfinished restore point (a folder that ends in .partial) is left, and removed "
	    "by the next run; finished ones are not touched.  What was done to a guest, virt-backupd --reconcile undoes\n";

	if (!interrupted) {
		interrupted = 1;
		return;
	}
	if (write(STDERR_FILENO, text, sizeof(text) - 1) == -1)
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

/* What the job's patterns find.  A libvirt that cannot be reached just now does not make a configuration wrong. */
static int
check_domains(const struct conf_job *job)
{
	struct domain_names found = DOMAIN_NAMES_INIT;
	struct err err = ERR_INIT;
	struct hypervisor *hv;
	int rc = EXIT_DONE;

	if ((hv = hypervisor_open(job->connection, &err)) == NULL) {
		fprintf(stderr, "%s:%d: warning: job %s: %s\n", job->where.file, job->where.line, job->name, human_safe(err.text));
		return (EXIT_DONE);
	}
	if (domains_find(hv, job, &found, &err) == -1) {
		fprintf(stderr, "%s:%d: job %s: %s\n", job->where.file, job->where.line, job->name, human_safe(err.text));
		rc = EXIT_FAILED;
	} else
		printf("job %s: %zu domain%s to %s\n", job->name, found.n, found.n == 1 ? "" : "s", job->repository->url);
	domains_free(&found);
	hypervisor_close(hv);
	return (rc);
}

static int
check_images(const struct conf_job *job)
{
	struct image_files files = IMAGE_FILES_INIT;
	struct err err = ERR_INIT;
	int rc = EXIT_DONE;

	if (images_find(job->images.v, job->images.n, &files, &err) == -1) {
		fprintf(stderr, "%s:%d: job %s: %s\n", job->where.file, job->where.line, job->name, human_safe(err.text));
		rc = EXIT_FAILED;
	} else
		printf("job %s: %zu image%s to %s\n", job->name, files.n, files.n == 1 ? "" : "s", job->repository->url);
	images_free(&files);
	return (rc);
}

static int
check_job(const struct conf_job *job)
{
	int rc = EXIT_DONE;

	if (job->source == CONF_SOURCE_FROM)
		printf("job %s: what %s has, to %s\n", job->name, job->from->url, job->repository->url);
	else
		rc = job->source == CONF_SOURCE_DOMAINS ? check_domains(job) : check_images(job);
	for (size_t i = 0; i < job->nreplicate; i++)
		printf("job %s: then to %s\n", job->name, job->replicate[i]->url);
	return (rc);
}

static void
warn_notify(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "warning: notify: %s\n", text);
}

/* The daemon does not start without its group. */
static int
check_daemon(const struct conf *c)
{
	struct err err = ERR_INIT;
	gid_t group;

	if (c->daemon.api_group == NULL || api_group_find(c->daemon.api_group, &group, &err) == 0)
		return (EXIT_DONE);
	err_wrap(&err, "daemon: api_group");
	return (failed(&err));
}

static int
check_config(const struct conf *c)
{
	int rc = check_daemon(c);

	notify_check(&c->notify, warn_notify, NULL);
	for (size_t i = 0; i < c->njobs; i++)
		if (check_job(&c->jobs[i]) != EXIT_DONE)
			rc = EXIT_FAILED;
	if (rc == EXIT_DONE)
		printf("the configuration is good: %zu job%s, %zu repositor%s\n", c->njobs, c->njobs == 1 ? "" : "s", c->nrepositories,
		    c->nrepositories == 1 ? "y" : "ies");
	return (rc);
}

/* A worker's end is known also to a daemon that was killed meanwhile.  One that was told to end has none: it is judged by who told it. */
static void
leave_result(int rc, const char *why)
{
	if (!interrupted || rc == EXIT_DONE)
		run_result_end(rc, why);
}

static int
run_once(const struct conf *c, const struct options *o)
{
	const struct conf_job *job = conf_find_job(c, o->once);
	struct run_outcome outcome = RUN_OUTCOME_INIT;
	struct earlier earlier = EARLIER_INIT;
	struct run_options opt = { .json = o->json, .only = o->domain, .full = o->full, .reread = o->reread, .interrupted = &interrupted,
		.earlier = &earlier, .outcome = &outcome };
	/* The daemon itself notifies, whatever becomes of us. */
	bool worker = getenv("OVB_RESULT_FILE") != NULL;
	int64_t started = time(NULL);
	struct err err = ERR_INIT;
	int rc;

	if (job == NULL) {
		fprintf(stderr, "virt-backupd: %s has no job \"%s\"; it has:", o->config, o->once);
		for (size_t i = 0; i < c->njobs; i++)
			fprintf(stderr, " %s", c->jobs[i].name);
		fputc('\n', stderr);
		return (EXIT_FAILED);
	}
	if (!worker)
		notify_once_begins(c, job);
	if ((rc = earlier_read(&earlier, &err) == -1 ? -1 : run_job(job, &opt, &err)) == -1)
		failed(&err);
	else
		err.text[0] = '\0';
	if (!worker)
		notify_once_ended(c, job, rc, &outcome, started);
	run_outcome_free(&outcome);
	earlier_free(&earlier);
	rc = rc == 0 ? EXIT_DONE : EXIT_FAILED;
	leave_result(rc, err.text);
	return (rc);
}

/* Returns -1 to go on, else the exit status. */
static int
parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' }, { "once", required_argument, NULL, '1' }, { "check-config", no_argument, NULL, 'n' },
		{ "reconcile", no_argument, NULL, 'R' }, { "domain", required_argument, NULL, 'd' },
		{ "full", no_argument, NULL, 'F' }, { "reread", no_argument, NULL, 'e' },
		{ "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 },
	};
	int ch;

	while ((ch = getopt_long(argc, argv, "c:1:d:nRFejhV", longs, NULL)) != -1) {
		switch (ch) {
		case 'c':
			o->config = optarg;
			break;
		case '1':
			o->once = optarg;
			break;
		case 'd':
			o->domain = optarg;
			break;
		case 'n':
			o->check = true;
			break;
		case 'F':
			o->full = true;
			break;
		case 'e':
			o->reread = true;
			break;
		case 'R':
			o->reconcile = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			usage(stdout);
			return (EXIT_DONE);
		case 'V':
			puts("virt-backupd (openvirt-backup) " OVB_VERSION);
			return (EXIT_DONE);
		default:
			usage(stderr);
			return (EXIT_USAGE);
		}
	}
	if (optind < argc)
		return (stray_argument(argv[optind]));
	if ((o->once != NULL) + o->check + o->reconcile > 1)
		return (wrong_usage("say what to do: one of --once JOB, --check-config and --reconcile, or none to be the daemon"));
	if ((o->full || o->reread || o->json || o->domain != NULL) && o->once == NULL)
		return (wrong_usage("--domain, --full, --reread and --json belong to --once"));
	if (o->full && o->reread)
		return (wrong_usage("--full reads everything anyway: leave out --reread"));
	return (-1);
}

int
main(int argc, char **argv)
{
	struct options o = { .config = CONFIG_DEFAULT };
	struct err err = ERR_INIT;
	struct conf *c;
	int rc;

	io_keep_std();
	if (argc > 1 && strcmp(argv[1], GUARD_OPTION) == 0)
		return (freeze_guard_main(argc, argv));
	if (argc > 1 && strcmp(argv[1], NOTIFY_OPTION) == 0)
		return (notify_role_main(argc, argv));
	if ((rc = parse(argc, argv, &o)) != -1)
		return (rc);
	/* Archives hold what guests keep secret. */
	umask(077);
	if (o.once == NULL && !o.check && !o.reconcile)
		return (daemon_main(o.config));
	catch_signals();
	/* What is to be undone is in the journal; a configuration that is broken must not stand in the way. */
	if (o.reconcile)
		return ((rc = reconcile(&err)) == -1 ? failed(&err) : rc == 0 ? EXIT_DONE : EXIT_FAILED);
	if ((c = conf_load(o.config, &err)) == NULL)
		return (failed(&err));
	rc = o.check ? check_config(c) : run_once(c, &o);
	conf_free(c);
	return (rc);
}
