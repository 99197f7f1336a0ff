/* report.h - restore points and archives as text and as JSON, on standard output. */
#ifndef OVB_REPORT_H
#define OVB_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "archive/archive_reader.h"
#include "repository/repo.h"

/** report_point_json(p, m, is_protected): One element of the array that list --json prints; a new reference. */
json_t *report_point_json(const struct point *p, const struct manifest *m, bool is_protected);

/** report_point_line(p, m, is_protected, first): One line of list, after the heading when ${first}. */
void report_point_line(const struct point *p, const struct manifest *m, bool is_protected, bool first);

/** report_point(p, m, is_protected, json): What show prints. */
void report_point(const struct point *p, const struct manifest *m, bool is_protected, bool json);

/** report_protected(r, p): Whether the point is protected; where that cannot be told, it is not said. */
bool report_protected(struct repo *r, const struct point *p);

/** report_archive(ar, json): What list and show print of a bare archive. */
void report_archive(const struct archive_reader *ar, bool json);

/** report_spec(p, m, out): "VM@TIME", as it can be given to virt-restore. */
const char *report_spec(const struct point *p, const struct manifest *m, char out[2 * NAMING_MAX]);

#endif
