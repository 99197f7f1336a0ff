#include "base/progress.h"

#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <jansson.h>
#include <stdlib.h>

#include "base/human.h"

#define BAR_MIN		8u		/* columns, with its brackets: a shorter one says nothing */
#define BAR_MAX		40u
#define LABEL_MIN	12u
#define LIMIT_COLUMNS	26u
#define SMOOTH_S	5.0		/* the rate shown is that of about the last seconds */

/* There is one terminal.  The threads that find damage clear its line before they say so, while another one shows how far it is. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double
seconds_between(const struct timespec *a, const struct timespec *b)
{
	return ((double)(b->tv_sec - a->tv_sec) + (double)(b->tv_nsec - a->tv_nsec) / 1e9);
}

void
progress_init(struct progress *p, bool json, FILE *err_stream, FILE *out_stream)
{
	memset(p, 0, sizeof(*p));
	p->mode = json ? PROGRESS_JSON : isatty(fileno(err_stream)) ? PROGRESS_BAR : PROGRESS_NONE;
	p->out = json ? out_stream : err_stream;
}

void
progress_begin(struct progress *p, const char *label, uint64_t total)
{
	progress_end(p);
	snprintf(p->label, sizeof(p->label), "%s", label);
	human_safe(p->label);
	p->total = total;
	p->rate = 0;
	p->shown_done = 0;
	p->drawn = false;
	clock_gettime(CLOCK_MONOTONIC, &p->begun);
	p->shown = p->begun;
}

double
progress_seconds(const struct progress *p)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (seconds_between(&p->begun, &now));
}

static double
seconds_left(const struct progress *p, uint64_t done)
{
	return (p->rate > 0 && p->total > done ? (double)(p->total - done) / p->rate : 0);
}

void
progress_format(const struct progress *p, uint64_t done, double seconds, unsigned int columns, char *line, size_t n)
{
	char got[HUMAN_LEN], all[HUMAN_LEN], rate[HUMAN_LEN], left[HUMAN_LEN], limit[HUMAN_LEN], facts[200], bar[BAR_MAX + 4] = "", label[sizeof(p->label)];
	unsigned int percent = p->total > 0 ? (unsigned int)(100.0 * (double)done / (double)p->total) : 0, width, used;

	if (percent > 100)
		percent = 100;
	human_size(done, got);
	human_size(p->total, all);
	human_size((uint64_t)p->rate, rate);
	human_duration(seconds < 1 ? 0 : seconds_left(p, done), left);
	used = (unsigned int)snprintf(facts, sizeof(facts), " %3u%%  %s of %s  %s/s  %s left", percent, got, all, rate, left);
	if (p->limit > 0 && columns >= used + LIMIT_COLUMNS + LABEL_MIN)
		used += (unsigned int)snprintf(facts + used, sizeof(facts) - used, ", writes at most %s/s", human_size(p->limit, limit));
	if (columns < used + LABEL_MIN)
		used = (unsigned int)snprintf(facts, sizeof(facts), " %3u%%  %s of %s", percent, got, all);
	if (columns < used + LABEL_MIN)
		used = (unsigned int)snprintf(facts, sizeof(facts), " %3u%%", percent);
	snprintf(label, sizeof(label), "%s", p->label);
	used += human_fit(label, columns > used ? columns - used : 0);
	if (columns >= used + BAR_MIN) {
		width = columns - used - 3;
		if (width > BAR_MAX)
			width = BAR_MAX;
		memset(bar, '.', width + 3);
		memcpy(bar, " [", 2);
		memset(bar + 2, '#', width * percent / 100);
		memcpy(bar + 2 + width, "]", 2);
	}
	snprintf(line, n, "%s%s%s", label, bar, facts);
}

static unsigned int
terminal_columns(FILE *f)
{
	struct winsize ws;

	return (ioctl(fileno(f), TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 ? ws.ws_col : 80);
}

static void
show_json(const struct progress *p, uint64_t done)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:f}", "event", "progress", "name", p->label, "done", (json_int_t)done, "total",
	    (json_int_t)p->total, "rate", (json_int_t)p->rate, "left", seconds_left(p, done));

	if (o != NULL && p->limit > 0)
		json_object_set_new(o, "limit", json_integer((json_int_t)p->limit));
	if (o != NULL && json_dumpf(o, p->out, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
		fputc('\n', p->out);
	fflush(p->out);
	json_decref(o);
}

/* With the lock. */
static void
update(struct progress *p, uint64_t done)
{
	double since, weight, now_rate;
	struct timespec now;
	char line[sizeof(p->label) + 256];

	clock_gettime(CLOCK_MONOTONIC, &now);
	since = seconds_between(&p->shown, &now);
	if (since < (p->mode == PROGRESS_JSON && p->drawn ? 1.0 : 0.2))
		return;
	now_rate = (double)(done - p->shown_done) / since;
	weight = p->rate > 0 && since < SMOOTH_S ? since / SMOOTH_S : 1;
	p->rate += (now_rate - p->rate) * weight;
	p->shown = now;
	p->shown_done = done;
	if (p->mode == PROGRESS_JSON) {
		show_json(p, done);
		p->drawn = true;
		return;
	}
	progress_format(p, done, seconds_between(&p->begun, &now), terminal_columns(p->out) - 1, line, sizeof(line));
	fprintf(p->out, "\r%s\033[K", line);
	fflush(p->out);
	p->drawn = true;
}

void
progress_update(struct progress *p, uint64_t done)
{
	if (p->mode == PROGRESS_NONE)
		return;
	pthread_mutex_lock(&lock);
	update(p, done);
	pthread_mutex_unlock(&lock);
}

void
progress_end(struct progress *p)
{
	pthread_mutex_lock(&lock);
	if (p->drawn && p->mode == PROGRESS_BAR)
		fprintf(p->out, "\r\033[K");
	p->drawn = false;
	fflush(p->out);
	pthread_mutex_unlock(&lock);
}
