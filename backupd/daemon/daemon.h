/*
 * daemon.h - the scheduler daemon: it starts runs when they are due, watches them, and remembers what became of them.  It touches no guest and no archive.
 *
 * The files in this folder:
 *   daemon.c        start, the loop, signals, the end           reload.c    the configuration, and SIGHUP
 *   runs.c          runs as workers: start, cancel, end         ops.c       what the API answers (ops.h);  ops_json.c  its objects
 *   unheard.c       what they did when the daemon was gone      clock.c     whether the clock was set
 *   engine.c        schedule + queue + configuration            schedule.c  when a job is due, which run is next; pure
 *   db*.c, sql.c    queue and history (db.h)                    run.c       a run's words;  run_log.c  what it had to say
 *   notifier.c      people are told, by children             alarms.c    what they should know though no run has failed;  space.c  room in repositories
 *   worker.c        one child;  worker_spawn.c  its start;  worker_event.c  what it prints;  process.c  which one it is
 */
#ifndef OVB_DAEMON_H
#define OVB_DAEMON_H

/** daemon_main(config): Be the daemon, until SIGTERM or SIGINT.  Returns the exit status. */
int daemon_main(const char *config);

#endif
