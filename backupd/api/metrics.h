/* metrics.h - the daemon's status in Prometheus' text exposition format, version 0.0.4.  Pure. */
#ifndef OVB_API_METRICS_H
#define OVB_API_METRICS_H

#include <jansson.h>

#include "base/buf.h"

#define METRICS_TYPE	"text/plain; version=0.0.4; charset=utf-8"

/** metrics_format(status, out, err): Append all metrics of ${status}, an object as API.md describes it; what it has not is left out.  Fails: -1. */
int metrics_format(const json_t *status, struct buf *out, struct err *err);

#endif
