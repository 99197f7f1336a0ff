/* ops_json.h - the API's objects (API.md, "Objects").  Each gives a new reference, or NULL: out of memory.  What is not known is null. */
#ifndef OVB_OPS_JSON_H
#define OVB_OPS_JSON_H

#include <jansson.h>

#include "run.h"
#include "worker.h"

/** ops_time(t): RFC 3339 in UTC; RUN_NO_TIME is null. */
json_t *ops_time(int64_t t);

/** ops_text(text): NULL and "" are null. */
json_t *ops_text(const char *text);

/** ops_record(r, m): What the run ${r} did for ${m}; NULL: it came to none. */
json_t *ops_record(const struct run *r, const struct machine *m);

/** ops_run(r, w, now): A run; ${w} is its worker while it runs, or NULL. */
json_t *ops_run(const struct run *r, const struct worker *w, int64_t now);

/** ops_last(r): How a job's last run ended. */
json_t *ops_last(const struct run *r);

#endif
