/*
 * conf.h - the configuration file as checked values.
 *
 * Calling sequence:  conf_load | conf_parse -> read the fields -> conf_free
 *
 * A struct conf is complete and consistent: defaults are filled in, every name of a repository is resolved, and what it holds
 * never changes.  All strings and pointers in it live until conf_free(); any number of threads may read it.
 * schedule and full are calendar events and within is a span of time that calendar.h and span.h accept.
 *
 * The files behind this header:
 *   conf.c       conf_load, conf_parse, conf_free: text to tree to values
 *   conf_text.c  reads the file and the files that it includes, and remembers which line came from where
 *   conf_lex.c   cuts text into tokens
 *   conf_check.c holds the tokens to the grammar, before libconfig sees them
 *   conf_get.c   typed access to libconfig's tree, errors with file, line and key
 *   conf_repo.c  the list "repositories";  conf_job.c  the list "jobs";  conf_url.c  a repository's URL
 *   conf_daemon.c  the group "daemon", and the keys of a job that only the daemon acts upon
 *   conf_notify.c  the group "notify";  conf_hooks.c  a job's hooks, and when it alarms
 */
#ifndef OVB_CONF_H
#define OVB_CONF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/compression.h"
#include "repository/low_space.h"

#define CONF_MAX_BYTES		(1024 * 1024)	/* the file together with all that it includes */
#define CONF_MAX_ENTRIES	10000		/* of one array or list */
#define CONF_MAX_KEEP		100000		/* of one count in keep */
#define CONF_MAX_QUIESCE	600		/* seconds */
#define CONF_MIN_SCRATCH	(16 * 1024 * 1024)	/* bytes: what a guest writes between two looks at it must fit */
#define CONF_MIN_RATE		65536		/* bytes a second: the slowest pace at which a run still shows signs of life */
#define CONF_MAX_RETRIES	20
#define CONF_MAX_SECONDS	86400		/* of what the daemon waits for */
#define CONF_MAX_PARALLEL	1000		/* runs at once */
#define CONF_MAX_HISTORY	100000		/* runs */
#define CONF_MAX_NOTIFY		600		/* seconds that telling somebody may take */
#define CONF_MAX_REQUEST	240	/* seconds of one request to a server: a lock is renewed in time all the same */
#define CONF_MAX_REPLICATE	16	/* points that are copied at a time */
#define CONF_PARALLEL		4	/* of them, where nothing is said and a server is at one end */
#define CONF_READ_BACK		5	/* per cent of a copied archive, where nothing is said */
#define CONF_MAX_NAME		100		/* bytes in the name of a job or repository: room for endings in a file name */

/* Where in which file something was written.  A key that was not given has line 0 and no file. */
struct conf_where {
	const char	*file;
	int		 line;
};

struct conf_strings {
	char	**v;
	size_t	  n;
};

enum conf_url_kind {
	CONF_URL_LOCAL,
	CONF_URL_SFTP
};

struct conf_url {
	enum conf_url_kind	 kind;
	char			*user;	/* sftp only; NULL: not given */
	char			*host;	/* sftp only; an IPv6 address stands here without its brackets */
	int			 port;	/* sftp only; 0: not given */
	char			*path;	/* absolute */
};

enum conf_host_key {
	CONF_HOST_KEY_AS_SSH,	/* the default: as ssh_config(5) has it */
	CONF_HOST_KEY_STRICT,
	CONF_HOST_KEY_ACCEPT_NEW
};

struct conf_repository {
	char			*name;		/* unique */
	char			*url;		/* as it was written */
	struct conf_url		 at;		/* the same, taken apart */
	char			*identity;	/* sftp only; an absolute path; NULL: not given */
	char			*known_hosts;	/* likewise */
	char			*passphrase_file;	/* likewise */
	int			 host_key;	/* sftp only; enum conf_host_key */
	int			 connect_timeout, idle_timeout, request_timeout;	/* sftp only; seconds; 0: not given */
	int			 parallel;	/* sftp only; points that replication copies at a time; 0: not given */
	int			 read_back;	/* sftp only; per cent of a copied archive; -1: not given */
	int			 max_parallel;	/* runs that write to it at once; 0: as many as there are */
	char			*low_space;	/* as it was written, or the default */
	struct low_space	 low;		/* the same, as values */
	struct conf_where	 where;
};

struct conf_keep {
	int	 last, hourly, daily, weekly, monthly, yearly;	/* 0: none for this reason */
	char	*within;					/* a span of time (span.h); NULL: not given */
};

enum conf_source {
	CONF_SOURCE_DOMAINS,
	CONF_SOURCE_IMAGES,
	CONF_SOURCE_FROM
};

enum conf_quiesce {
	CONF_QUIESCE_TRY,	/* the default */
	CONF_QUIESCE_REQUIRED,
	CONF_QUIESCE_NEVER
};

enum conf_capture {
	CONF_CAPTURE_AUTO,	/* the default */
	CONF_CAPTURE_BACKUP,
	CONF_CAPTURE_SNAPSHOT,
	CONF_CAPTURE_OFFLINE
};

/* Commands around a job and around each of its machines. */
enum conf_hook {
	CONF_HOOK_BEFORE_JOB,
	CONF_HOOK_AFTER_JOB,
	CONF_HOOK_BEFORE_DOMAIN,
	CONF_HOOK_AFTER_DOMAIN,
	CONF_HOOKS
};

struct conf_hooks {
	char	*command[CONF_HOOKS];	/* for sh -c; NULL: none */
	int	 timeout;		/* seconds that each may take */
};

struct conf_job {
	char				 *name;		/* unique, and fit to be part of a file name: [A-Za-z0-9._-], no dot first */
	struct conf_where		  where;
	enum conf_source		  source;

	/* CONF_SOURCE_DOMAINS */
	char				 *connection;	/* a libvirt URI, never NULL there */
	struct conf_strings		  domains;	/* shell patterns, at least one */
	struct conf_strings		  exclude;	/* shell patterns */
	struct conf_strings		  exclude_disks;	/* "TARGET" or "DOMAIN/TARGET", both shell patterns */
	enum conf_capture		  capture;
	enum conf_quiesce		  quiesce;
	int				  quiesce_timeout;	/* seconds, 1 to CONF_MAX_QUIESCE */
	struct conf_strings		  no_quiesce;	/* shell patterns of domains that are never frozen, whatever quiesce says */
	char				 *scratch;	/* an absolute path; NULL: the program's own state folder */
	uint64_t			  scratch_max;	/* bytes, at least CONF_MIN_SCRATCH; 0: all that is free */

	/* CONF_SOURCE_IMAGES */
	struct conf_strings		  images;	/* absolute paths or glob patterns, at least one */
	int				  in_use_allow;	/* 1: an image that a QEMU writes to is read all the same */

	/* CONF_SOURCE_FROM */
	const struct conf_repository	 *from;

	/* every job */
	const struct conf_repository	 *repository;	/* never NULL */
	const struct conf_repository	**replicate;	/* no doubles, never the job's own */
	size_t				  nreplicate;
	struct compression		  compression;
	int				  incremental;	/* 0: every point has all of its data in its own archive */
	char				 *schedule;	/* a calendar event (calendar.h); NULL: only on request */
	char				 *full;		/* likewise; NULL: not given */
	uint64_t			  rate_limit;	/* bytes a second that a run writes to the repository, at least CONF_MIN_RATE; 0: as fast as it goes */
	struct conf_keep		  keep;		/* meaningful when keep_at.line != 0: then it keeps something */

	/* what the daemon does with it; times in seconds */
	int				  random_delay;	/* a run begins up to so much after its time */
	int				  catch_up;	/* 1: a run that was missed is made up for, once */
	int				  retries;	/* how often a run that failed is tried again */
	int				  retry_wait;	/* before the first of these; twice as much before each further one */
	char				 *window;	/* begins in it only (window.h); NULL: at any time */
	int				  window_cancel;	/* 1: what has not ended when it closes is cancelled; 0: it is finished */
	int				  stall_timeout;	/* a run that shows no sign of life for so long is ended; 0: never */

	struct conf_hooks		  hooks;
	char				 *alert_after;	/* a span (span.h): an older last success is an alarm; NULL: never */

	/* Where these keys were given (line 0: not given), for a program that has to say something about one. */
	struct conf_where		  schedule_at;
	struct conf_where		  keep_at;
	struct conf_where		  replicate_at;
	struct conf_where		  full_at;
};

enum conf_on_stop {
	CONF_STOP_CANCEL,	/* the default */
	CONF_STOP_FINISH
};

struct conf_daemon {
	int			 max_parallel;	/* runs at once */
	int			 stop_timeout;	/* seconds that a run gets to end, before it is killed */
	enum conf_on_stop	 on_stop;	/* what becomes of runs when the daemon is to end */
	int			 nice;		/* of runs, 0 to 19 */
	int			 idle_io;	/* 1: runs are in the idle class of I/O scheduling */
	int			 history;	/* runs of each job that are remembered */
	char			*api_group;	/* whose members may connect to the API and read; NULL: nobody's */
	int			 api_group_acts;	/* 1: they may also run, cancel, pause and resume */
};

/* What somebody may want to be told of. */
enum conf_event {
	CONF_EVENT_START,
	CONF_EVENT_SUCCESS,
	CONF_EVENT_FAILURE,	/* and it is not tried again */
	CONF_EVENT_RETRY,	/* failed or interrupted, and it is tried again */
	CONF_EVENT_OVERDUE,
	CONF_EVENT_LOW_SPACE
};

enum conf_starttls {
	CONF_STARTTLS_REQUIRED,
	CONF_STARTTLS_TRY,
	CONF_STARTTLS_NEVER
};

struct conf_mail {
	struct conf_strings	 to;		/* at least one */
	char			*from;		/* NULL: this program at this host */
	char			*server;	/* smtp:// or smtps://; NULL: sendmail */
	int			 starttls;	/* enum conf_starttls */
	char			*user;		/* of the server; NULL: none is needed */
	char			*password_file;	/* given with user */
	char			*ca_file;	/* whose certificates to trust; NULL: the system's */
	char			*sendmail;	/* an absolute path; NULL: server */
	unsigned int		 on;		/* a bit for each enum conf_event */
	int			 timeout;	/* seconds */
};

struct conf_webhook {
	char			*url;		/* takes the facts as JSON */
	char			*ping;		/* takes a ping; ping/start and ping/fail the others */
	char			*start_url, *success_url, *failure_url;	/* each takes a ping */
	char			*token_file;	/* of a bearer token; NULL: none */
	char			*ca_file;
	unsigned int		 on;
	int			 timeout;	/* seconds */
};

struct conf_notify {
	struct conf_mail	*mails;
	size_t			 nmails;
	struct conf_webhook	*webhooks;
	size_t			 nwebhooks;
};

struct conf {
	struct conf_repository	*repositories;		/* at least one; the first is the default */
	size_t			 nrepositories;
	struct conf_job		*jobs;			/* maybe none */
	size_t			 njobs;
	struct conf_daemon	 daemon;
	struct conf_notify	 notify;
	char			*text;			/* all of it, included files in their places: conf_load() of it gives the same values */
	char		       **files;			/* the file, then each file as it was included */
	size_t			 nfiles;
};

/**
 * conf_load(path, err):
 * Read and check the configuration file ${path} and the files that it includes.  A line @include "FILE" stands for the text of
 * FILE, a relative name being relative to the folder of the file that includes it.
 *
 * Fails:   NULL and ${err} set.  A file that cannot be read: its name and errno.  Anything wrong inside: "FILE:LINE: KEY: ",
 *          then what is expected, where FILE is the included file if it is in one, and KEY a path like jobs[0].keep.last.
 * Threads: any.
 * Blocks:  on the disk.
 */
struct conf *conf_load(const char *path, struct err *err);

/**
 * conf_parse(text, len, name, err):
 * The same for ${len} bytes of text, which ${name} stands for in errors.  @include is an error here.
 */
struct conf *conf_parse(const char *text, size_t len, const char *name, struct err *err);

/** conf_free(c): Free ${c} and all it holds; harmless on NULL. */
void conf_free(struct conf *c);

/** conf_find_repository(c, name): The repository ${name}, or NULL. */
const struct conf_repository *conf_find_repository(const struct conf *c, const char *name);

/** conf_find_job(c, name): The job ${name}, or NULL. */
const struct conf_job *conf_find_job(const struct conf *c, const char *name);

/** conf_event_name(e), conf_event_named(text): As in the configuration; -1: there is none such. */
const char *conf_event_name(enum conf_event e);
int conf_event_named(const char *text);

/**
 * conf_url_parse(text, out, err):
 * Take ${text}, an absolute path or sftp://[user@]host[:port]/path, apart into ${out}.  Nothing in it is %-decoded.  User and host
 * hold no shell or option characters, so that they are safe as arguments.
 *
 * Fails: -1, ${err} quotes ${text} and says what is expected (or is out of memory); ${out} is empty.
 */
int conf_url_parse(const char *text, struct conf_url *out, struct err *err);

/** conf_url_free(u): Free what ${u} owns and make it empty; harmless on an empty one. */
void conf_url_free(struct conf_url *u);

#endif
