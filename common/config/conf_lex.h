/*
 * conf_lex.h - the tokens of a configuration file, as libconfig defines them but stricter.
 *
 * Calling sequence:  set the four fields of a struct lex -> lex_next until LEX_END
 *
 * What libconfig would take in another sense than it was meant is an error here: libconfig 1.5 cuts integers to 32 bits
 * (4294967297 is 1), drops \x00 from a string, and takes a comment on a last line without newline for garbage.
 */
#ifndef OVB_CONF_LEX_H
#define OVB_CONF_LEX_H

#include <stddef.h>

#include "base/err.h"

enum lex_kind {
	LEX_END,
	LEX_NAME,
	LEX_EQUALS,		/* = or : */
	LEX_STRING,
	LEX_INT,		/* fits into 32 bits */
	LEX_INT64,		/* ends with L, fits into 64 */
	LEX_FLOAT,
	LEX_BOOL,
	LEX_OPEN,		/* { [ ( */
	LEX_CLOSE,		/* } ] ) */
	LEX_COMMA,
	LEX_SEMICOLON,
	LEX_INCLUDE		/* @include "FILE" */
};

struct lex_token {
	enum lex_kind	 kind;
	const char	*at;		/* into the text; of LEX_INCLUDE the whole directive */
	size_t		 len;
	int		 line;
	const char	*path;		/* of LEX_INCLUDE: what stands between the quotes */
	size_t		 path_len;
};

struct lex {
	const char	*p, *end;	/* what is left */
	int		 line;		/* of p, from 1 */
	int		 fresh;		/* 1: only blanks between the start of the line and p */
};

/**
 * lex_next(lx, tok, err):
 * Cut the next token off ${lx}'s text into ${tok}.  At the end of the text that is LEX_END, however often asked.
 *
 * Fails: -1, ${err} says what is wrong in line ${lx}->line, without naming file or line.
 */
int lex_next(struct lex *lx, struct lex_token *tok, struct err *err);

#endif
