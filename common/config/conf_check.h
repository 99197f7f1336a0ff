/*
 * conf_check.h - holds a configuration's tokens to the grammar before libconfig sees the text.
 *
 * Calling sequence:  check_init -> check_token for each token, LEX_END of the outermost file last
 *
 * libconfig would find the same mistakes, but it names no key, leaks the string at which it stops, searches a group of n keys n
 * times, and recurses as deep as the text does.  So it is given only what is well-formed and small.
 */
#ifndef OVB_CONF_CHECK_H
#define OVB_CONF_CHECK_H

#include <stddef.h>

#include "base/err.h"
#include "config/conf_lex.h"

#define CHECK_MAX_DEPTH	16	/* the deepest that means anything is jobs = ( { keep = { } } ): 3 */
#define CHECK_MAX_KEYS	100	/* in one group */

enum check_want {
	CHECK_KEY,
	CHECK_EQUALS,
	CHECK_VALUE,
	CHECK_AFTER		/* a value is complete */
};

struct check_level {
	char		 open;		/* '{', also for the whole file, '[' or '(' */
	const char	*file;		/* where it was opened */
	int		 line;
	enum lex_kind	 kind;		/* of an array's values */
	size_t		 n;		/* keys or values so far */
	struct {
		size_t	at, len;	/* place in the text */
	} keys[CHECK_MAX_KEYS];
};

struct check {
	enum check_want		want;
	enum lex_kind		last;	/* the token before */
	int			depth;
	char			key[48];	/* the last key, for errors */
	struct check_level	level[CHECK_MAX_DEPTH + 1];
};

/** check_init(c): Make ${c} ready for the first token. */
void check_init(struct check *c);

/**
 * check_token(c, tok, text, file, err):
 * Account for ${tok}, which came from ${file} and is now the last of the whole text, its first byte being text[at].  The grammar
 * is libconfig 1.5's: a comma may end a setting, but not a list.
 *
 * Fails: -1, ${err} has the text without file and line.
 */
int check_token(struct check *c, const struct lex_token *tok, const char *text, size_t at, const char *file, struct err *err);

#endif
