/*
 * document.h - reading and writing JSON objects (libjansson) that come from outside: every value is checked for its type.
 */
#ifndef OVB_DOCUMENT_H
#define OVB_DOCUMENT_H

#include <jansson.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/** doc_parse(text, len, what, err): Parse an object.  ${what} names it in errors.  Returns a reference that the caller drops, or NULL. */
json_t *doc_parse(const char *text, size_t len, const char *what, struct err *err);

/** doc_text(o, key, out, err): *${out} is the string at ${key}, owned by ${o}.  Fails: -1 when there is none. */
int doc_text(const json_t *o, const char *key, const char **out, struct err *err);

/** doc_size(o, key, out, err): *${out} is the whole number, 0 or more, at ${key}.  Fails: -1 when there is none. */
int doc_size(const json_t *o, const char *key, uint64_t *out, struct err *err);

/** doc_format_is(o, what, err): Whether "format" is 1.  Fails: -1, saying which it is. */
int doc_format_is(const json_t *o, const char *what, struct err *err);

/**
 * doc_string(text):
 * A JSON string, for texts that may have been cut within a character, or name files that are not called in UTF-8: a byte that is none becomes a question
 * mark.  NULL when ${text} is, or without memory.
 */
json_t *doc_string(const char *text);

/** doc_write(o, out, err): Append ${o} as indented text with a newline; drops the reference to ${o}, which may be NULL (out of memory). */
int doc_write(json_t *o, struct buf *out, struct err *err);

#endif
