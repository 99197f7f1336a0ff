/* daemon_private.h - the daemon's one struct, for the files that daemon.h names. */
#ifndef OVB_DAEMON_PRIVATE_H
#define OVB_DAEMON_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config/conf.h"
#include "db.h"
#include "engine.h"
#include "worker.h"

struct alarms;
struct interface;
struct notifier;

struct daemon {
	sd_event	*ev;
	struct db	*db;
	struct engine	*engine;
	int		 lock;			/* held while the daemon lives */

	/* reload.c */
	const char	*config;		/* its file */
	struct conf	*conf;			/* in force */
	int		 conf_fd;		/* its text, for workers */
	int64_t		 conf_loaded;
	char		 conf_error[RUN_TEXT_LEN];	/* why a newer one was not taken; "": it was */

	/* daemon.c */
	int64_t		 started;
	int64_t		 clock_offset;		/* clock.c */
	int		 timer;			/* timerfd: the next time of the schedule, by a clock that may be set */
	sd_event_source	*sources[5], *second;
	bool		 in_memory;		/* the state is not on the disk */
	bool		 stopping;
	int64_t		 stop_by;		/* deadline.h's clock: runs are told to end then; 0: they were */

	/* runs.c */
	struct worker	*workers;
	bool		 settling, settle;	/* a worker reconciles; another one is to */
	sd_event_source	*settle_later;		/* ... and one later on, as not all could be settled; NULL: it all was */
	unsigned int	 settle_wait;		/* seconds until then */

	struct interface *interface;		/* NULL: not there (yet) */
	struct notifier	*notifier;		/* likewise */
	struct alarms	*alarms;		/* likewise */

	/* What tells the API's clients; NULL: nobody does. */
	void		(*changed)(void *arg, int64_t run);
	void		*changed_arg;
};

/** daemon_say(trouble, fmt, ...): A line on standard error. */
void daemon_say(bool trouble, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** daemon_tick(d): Do what is due now, and wake up when something is next.  To be called whenever something may have changed. */
void daemon_tick(struct daemon *d);

/** daemon_now(): Seconds since 1970. */
int64_t daemon_now(void);

/* ---- clock.c ---- */

/** clock_look(d): Whether the clock was set since the last look, which is told. */
void clock_look(struct daemon *d);

/** clock_told(seconds, out, n): What to tell of a clock that was set forward by ${seconds}, or back by -${seconds}. */
void clock_told(int64_t seconds, char *out, size_t n);

/* ---- reload.c ---- */

/** daemon_load(d, err): Read the configuration, and have it in force.  Fails: -1, and the old one is. */
int daemon_load(struct daemon *d, struct err *err);

/** daemon_reload(d): The same on SIGHUP, with what is told. */
void daemon_reload(struct daemon *d);

/* ---- runs.c ---- */

extern const struct engine_ops daemon_engine_ops;

/** daemon_recover(d): Runs that were running when the last daemon died: those whose workers live are waited for, the others have been interrupted. */
void daemon_recover(struct daemon *d);

/** daemon_unheard(d, w): Take up what ${w}, which is not our child, did for machines, as far as the database does not know it yet (unheard.c). */
void daemon_unheard(struct daemon *d, struct worker *w);

/** daemon_settle(d): Have what dead runs did to guests undone. */
void daemon_settle(struct daemon *d);

/** daemon_stop_runs(d): Tell all of them to end; they are queued again. */
void daemon_stop_runs(struct daemon *d);

/** daemon_worker(d, run): Of a run that is running, or NULL. */
struct worker *daemon_worker(const struct daemon *d, int64_t run);

#endif
