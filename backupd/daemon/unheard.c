/* What a worker did when there was no daemon to hear of it: its notes have it. */
#include "daemon_private.h"
#include "worker_event.h"

struct unheard {
	struct daemon	*d;
	struct worker	*w;
};

static void
take(void *arg, int64_t when, const char *event)
{
	const struct unheard *u = arg;
	struct worker *w = u->w;
	char text[RUN_TEXT_LEN] = "";
	struct machine m;

	if (worker_event(w, event, when, &m, text, sizeof(text)) != WORKER_EVENT_MACHINE || db_has_machine(u->d->db, &m))
		return;
	run_log_line(&w->log, text);
	w->ops->say(w->arg, w, m.state != RUN_SUCCEEDED, text);
	w->ops->machine(w->arg, w, &m);
}

void
daemon_unheard(struct daemon *d, struct worker *w)
{
	struct unheard u = { d, w };

	run_result_each(w->run, take, &u);
}
