/*
 * notice.h - what people are told, as an object of JSON: the facts, and the same as a subject and a text.  It is what a webhook gets.  Pure but for the clock.
 *
 * Each function returns a new reference, or NULL: out of memory.   Threads: any.
 */
#ifndef OVB_NOTICE_H
#define OVB_NOTICE_H

#include <jansson.h>
#include <stdint.h>

#include "config/conf.h"

#define NOTICE_TEST	"test"		/* the event of one that only tries the channels */
#define NOTICE_NO_TIME	(-1)

/* A run begins, or has ended.  Times are seconds since 1970. */
struct notice_run {
	enum conf_event	 event;
	const char	*job, *repository;
	int64_t		 run;			/* 0: it has no number */
	const char	*state, *error;		/* NULL: not known */
	int		 attempt;
	int64_t		 started, finished;	/* or NOTICE_NO_TIME */
	unsigned int	 succeeded, failed;	/* machines */
	const char	*lines;			/* one for each machine; NULL: none */
	int64_t		 next_run, next_at;	/* it is tried again; 0: it is not */
};

json_t *notice_run(const struct notice_run *r);

/** notice_overdue(job, last_success, error): The last success is too old, or there is none.  ${error}: how its last run failed, NULL if it did not. */
json_t *notice_overdue(const struct conf_job *job, int64_t last_success, const char *error);

/** notice_low_space(r, free, total): ${total} 0: not known. */
json_t *notice_low_space(const struct conf_repository *r, uint64_t free, uint64_t total);

/** notice_test(job): ${job} stands for the one that something would be told of. */
json_t *notice_test(const char *job);

/** notice_text(notice, key): A text in it, "" if there is none. */
const char *notice_text(const json_t *notice, const char *key);

#endif
