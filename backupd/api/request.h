/* request.h - what a client asks for, as values.  Pure: no HTTP library, no operations.  Any bytes may come in. */
#ifndef OVB_API_REQUEST_H
#define OVB_API_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define REQUEST_NAME	256u	/* bytes of a name with its zero byte: libvirt's domains have 255 at most */
#define REQUEST_BODY	4096u	/* bytes of a body */

enum request_what {
	REQUEST_STATUS, REQUEST_JOBS, REQUEST_HISTORY, REQUEST_SCHEDULE, REQUEST_RUN_STATE, REQUEST_RUN_LOG, REQUEST_METRICS,
	REQUEST_JOB_RUN, REQUEST_RUN_CANCEL, REQUEST_PAUSE, REQUEST_RESUME, REQUEST_NOTIFY_TEST, REQUEST_NOTIFY_RESULT
};

struct request {
	enum request_what	 what;
	bool			 acts;			/* it changes something */
	char			 job[REQUEST_NAME];	/* "": not given */
	char			 domain[REQUEST_NAME];	/* likewise */
	int64_t			 run;			/* or the number of a test of notifications */
	unsigned int		 limit, next;
	bool			 full, follow;
	const char		*allow;			/* with a 405: the methods that there are */
};

/**
 * request_parse(method, target, r, err):
 * Take apart ${method} and ${target}, as in HTTP's request line: a path with its query, %-encoded.
 * Returns 0, or the HTTP status to answer with (400, 404, 405) and ${err} set.
 */
int request_parse(const char *method, const char *target, struct request *r, struct err *err);

/** request_body(r, text, len, err): The body that came with ${r}; an empty one says nothing.  Returns 0 or 400. */
int request_body(struct request *r, const char *text, size_t len, struct err *err);

#endif
