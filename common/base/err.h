/*
 * err.h - what went wrong, as a value.
 *
 * Functions that can fail return -1 or NULL and fill a struct err: common/ never prints and never exits.  The text names the
 * object and, where there is something to do, what to do.  Callers add what they were doing with err_wrap().
 */
#ifndef OVB_ERR_H
#define OVB_ERR_H

#include <stddef.h>

struct err {
	int	code;		/* an errno value, or 0 when none fits */
	char	text[1024];	/* always terminated; a longer text is cut */
};

#define ERR_INIT	{ 0, "" }

/**
 * err_set(err, code, fmt, ...):
 * Set ${err} to ${code} (an errno value or 0) and the formatted text, followed by ": " and strerror(${code}) when ${code} is
 * not 0.  Returns -1, so that "return (err_set(...))" reads well.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * err_plain(err, code, fmt, ...):
 * The same without strerror's text: the formatted one says it all, and ${code} is for callers that act upon it.  Returns -1.
 */
int err_plain(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * err_wrap(err, fmt, ...):
 * Put the formatted text and ": " before ${err}'s text.  Returns -1.
 */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * err_nomem(err):
 * Set ${err} to "out of memory".  Returns -1.
 */
int err_nomem(struct err *err);

#endif
