/* worker_event.h - a worker's line of JSON, as values.  Pure.  Threads: any. */
#ifndef OVB_WORKER_EVENT_H
#define OVB_WORKER_EVENT_H

#include "worker.h"

enum worker_event_kind { WORKER_EVENT_NONE, WORKER_EVENT_PROGRESS, WORKER_EVENT_TEXT, WORKER_EVENT_MACHINE, WORKER_EVENT_ROOM,
	WORKER_EVENT_SENT };	/* text, and of ${m} what more was sent */

/**
 * worker_event(w, line, now, m, text, n):
 * Take one line, which came at ${now}: how far it is goes to ${w}, what was done for a machine to ${m}, and what a log should say of it to ${text}.  What is not understood is
 * WORKER_EVENT_NONE.
 */
enum worker_event_kind worker_event(struct worker *w, const char *line, int64_t now, struct machine *m, char *text, size_t n);

#endif
