/*
 * worker.h - a run as a process of its own: started, listened to, watched, ended.
 *
 * Calling sequence:  worker_start | worker_adopt | worker_reconcile -> (worker_watch, each second)* -> its done() -> worker_free
 *
 * A worker is this program again, in a process group of its own.  It prints its events as lines of JSON on a pipe and everything else on another one.
 * When the daemon dies it gets SIGTERM.  A worker is never begun without the database knowing its process.
 * Threads: one at a time, that of the event loop.
 */
#ifndef OVB_WORKER_H
#define OVB_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "db.h"
#include "run_log.h"

struct worker;

struct worker_ops {
	/* It did something for one machine. */
	void	(*machine)(void *arg, struct worker *w, const struct machine *m);
	/* So many bytes more of ${m} were sent over a network: replicated. */
	void	(*sent)(void *arg, struct worker *w, const struct machine *m);
	/* How far it is has changed. */
	void	(*progress)(void *arg, struct worker *w);
	/* A line for the administrator. */
	void	(*say)(void *arg, struct worker *w, bool trouble, const char *text);
	/* It has ended, in ${w}->state, and is to be freed. */
	void	(*done)(void *arg, struct worker *w);
	/* It has seen so many bytes free in its job's repository. */
	void	(*room)(void *arg, struct worker *w, uint64_t bytes);
};

struct worker_settings {
	int		 conf_fd;	/* the configuration in force */
	int		 earlier_fd;	/* a file with the machines that earlier attempts have done (earlier.h); -1: none */
	int		 nice;
	bool		 idle_io;
	int64_t		 stall_ms, stop_ms;
};

enum worker_phase { WORKER_RUNS, WORKER_STOPS, WORKER_KILLED };

struct worker {
	struct worker		*next;		/* the caller's */
	int64_t			 run;		/* 0: it reconciles */
	char			 job[CONF_MAX_NAME + 1];
	bool			 adopted;	/* it is not our child: nothing can be heard of it */
	bool			 guests;	/* it works on guests: what it leaves is to be settled */
	bool			 was_killed;

	/* How far it is. */
	char			 vm[RUN_MACHINE_LEN], phase[32];
	int64_t			 vm_started;
	int64_t			 done, total, rate;	/* bytes, bytes a second */
	int64_t			 limit;			/* bytes a second that it may write; 0: any */
	double			 left;			/* seconds */
	int64_t			 machines, succeeded, failed;	/* machines -1: not known yet */
	uint64_t		 room;			/* bytes; see WORKER_EVENT_ROOM */

	/* How it ended. */
	enum run_state		 state;
	char			 message[RUN_TEXT_LEN];

	/* worker.c's own */
	struct worker_settings	 set;
	const struct worker_ops	*ops;
	void			*arg;
	pid_t			 pid;
	int			 pidfd, fds[2];		/* what it prints: events, and all else */
	struct buf		 lines[2];
	bool			 skip[2];		/* the rest of a line that was too long */
	sd_event_source		*sources[3];
	struct run_log		 log;
	enum worker_phase	 at;
	int64_t			 sign_ms, kill_ms;	/* deadline.h's clock */
	enum run_state		 stopped_as;		/* the state when it ends because it was told to */
	char			 why[RUN_TEXT_LEN];
	char			 failure[RUN_TEXT_LEN], last_line[RUN_TEXT_LEN];
};

/** worker_start(ev, r, job, set, db, ops, arg, err): Start the run ${r} of ${job}.  Fails: NULL. */
struct worker *worker_start(sd_event *ev, const struct run *r, const struct conf_job *job, const struct worker_settings *set, struct db *db,
    const struct worker_ops *ops, void *arg, struct err *err);

/** worker_adopt(ev, r, set, ops, arg): The worker of an earlier daemon, if it is still there: it is on its end, which is waited for.  NULL: it is not. */
struct worker *worker_adopt(sd_event *ev, const struct run *r, const struct worker_settings *set, const struct worker_ops *ops, void *arg);

/** worker_gone(r, ops, arg): The worker of an earlier daemon, of which only its notes are left.  NULL: out of memory. */
struct worker *worker_gone(const struct run *r, const struct worker_ops *ops, void *arg);

/** worker_judge_noted(w): How a worker that was not our child has ended, by its notes: ${w}->state and message. */
void worker_judge_noted(struct worker *w);

/** worker_log_end(w): How it ended, as the last line of its log. */
void worker_log_end(struct worker *w);

/** worker_reconcile(ev, set, ops, arg, err): virt-backupd --reconcile.  Fails: NULL. */
struct worker *worker_reconcile(sd_event *ev, const struct worker_settings *set, const struct worker_ops *ops, void *arg, struct err *err);

/** worker_stop(w, state, why): Tell it to end, which gives it ${state}; it is killed if it does not within stop_ms.  Once only. */
void worker_stop(struct worker *w, enum run_state state, const char *why);

/** worker_watch(w): Whether it shows signs of life, and ends when it was told to. */
void worker_watch(struct worker *w);

/** worker_free(w): harmless on NULL. */
void worker_free(struct worker *w);

#endif
