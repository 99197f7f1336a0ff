/*
 * naming.h - how machines and restore points are named: on disk (FORMAT.md, "Repository") and on the command line.
 */
#ifndef OVB_NAMING_H
#define OVB_NAMING_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"

#define NAMING_MAX	256u		/* longest file name, with the zero byte */
#define RFC3339_LEN	32u

/** name_escape(name, out, err): The folder's name for the machine ${name}.  Fails: -1 when it is empty or too long. */
int name_escape(const char *name, char out[NAMING_MAX], struct err *err);

/** point_name(t, suffix, out): The folder's name of a point of time ${t}; ${suffix} 1 for the first one of its second. */
void point_name(time_t t, unsigned int suffix, char out[NAMING_MAX]);

/** point_name_parse(name, t, suffix): The reverse.  Returns whether ${name} is a point's name. */
bool point_name_parse(const char *name, time_t *t, unsigned int *suffix);

/** name_has_ending(name, ending): Whether ${name} ends with ${ending} (".partial", ...), and is more than that. */
bool name_has_ending(const char *name, const char *ending);

/** time_rfc3339(t, out): In UTC with whole seconds: "2026-11-22T01:30:00Z". */
void time_rfc3339(time_t t, char out[RFC3339_LEN]);

/** time_parse_rfc3339(text, t): The reverse, of exactly that form.  Returns whether it was one. */
bool time_parse_rfc3339(const char *text, time_t *t);

/* "VM@TIME" of a command line. */
struct point_spec {
	char	vm[NAMING_MAX];
	char	prefix[NAMING_MAX];	/* of the folder's name; empty for "latest" */
};

/** point_spec_parse(text, out, err): Fails: -1 with a text that says what a point looks like. */
int point_spec_parse(const char *text, struct point_spec *out, struct err *err);

/** point_spec_format(vm, t, suffix, out): The reverse: "VM@TIME", whole.  Returns ${out}. */
const char *point_spec_format(const char *vm, time_t t, unsigned int suffix, char out[2 * NAMING_MAX]);

/** utf8_valid(s): Whether ${s} is UTF-8 without control characters: what may stand in a manifest, a tar header and a terminal. */
bool utf8_valid(const char *s);

/** utf8_clean(s): Put a question mark in the place of each byte that keeps ${s} from being that.  Returns ${s}. */
char *utf8_clean(char *s);

/** member_name_valid(s): Whether ${s} may be the name of an archive's member, but for its length: it stays in the folder that it is extracted to. */
bool member_name_valid(const char *s);

#endif
