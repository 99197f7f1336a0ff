#include "config/conf_lex.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define INT_DIGITS	9	/* always fit into libconfig's 32 bits */
#define INT64_DIGITS	18

/* ASCII only, whatever the locale says. */
static int
is_alpha(char c)
{
	return ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'));
}

static int
is_digit(char c)
{
	return (c >= '0' && c <= '9');
}

static int
is_name(char c)
{
	return (is_alpha(c) || is_digit(c) || c == '-' || c == '_' || c == '*');
}

static int
skip_long_comment(struct lex *lx, struct err *err)
{
	const char *p;

	for (p = lx->p + 2; p + 1 < lx->end; p++) {
		if (p[0] == '*' && p[1] == '/')
			break;
	}
	if (p + 1 >= lx->end)
		return (err_set(err, 0, "a comment begins here that does not end: */ is missing"));
	for (; lx->p < p; lx->p++)
		lx->line += *lx->p == '\n';
	lx->p += 2;
	lx->fresh = 0;
	return (0);
}

static int
skip_blanks(struct lex *lx, struct err *err)
{
	while (lx->p < lx->end) {
		if (*lx->p == '\n') {
			lx->line++;
			lx->fresh = 1;
			lx->p++;
		} else if (strchr(" \t\r\f", *lx->p) != NULL && *lx->p != '\0') {
			lx->p++;
		} else if (*lx->p == '#' || (lx->end - lx->p > 1 && lx->p[0] == '/' && lx->p[1] == '/')) {
			while (lx->p < lx->end && *lx->p != '\n')
				lx->p++;
		} else if (lx->end - lx->p > 1 && lx->p[0] == '/' && lx->p[1] == '*') {
			if (skip_long_comment(lx, err) == -1)
				return (-1);
		} else {
			break;
		}
	}
	return (0);
}

static int
lex_string(struct lex *lx, struct lex_token *tok, struct err *err)
{
	const char *p;

	for (p = tok->at + 1; p < lx->end && *p != '"' && *p != '\n'; p++) {
		if (*p != '\\' || p + 1 == lx->end || p[1] == '\n')
			continue;
		p++;
		if (lx->end - p >= 3 && (*p == 'x' || *p == 'X') && p[1] == '0' && p[2] == '0')
			return (err_set(err, 0, "a string cannot hold \\x00"));
	}
	if (p == lx->end || *p != '"')
		return (err_set(err, 0, "a string is not closed on its line: \" is missing"));
	tok->kind = LEX_STRING;
	tok->len = (size_t)(p + 1 - tok->at);
	return (0);
}

static int
lex_include(struct lex *lx, struct lex_token *tok, struct err *err)
{
	static const char word[] = "@include";
	const char *p = tok->at + strlen(word);
	const char *path;

	if (!lx->fresh || (size_t)(lx->end - tok->at) < strlen(word) || memcmp(tok->at, word, strlen(word)) != 0)
		goto bad;
	while (p < lx->end && (*p == ' ' || *p == '\t'))
		p++;
	if (p == lx->end || *p != '"')
		goto bad;
	for (path = ++p; p < lx->end && *p != '"'; p++) {
		if (*p == '\\' || iscntrl((unsigned char)*p))
			goto bad;
	}
	if (p == lx->end || p == path)
		goto bad;
	tok->kind = LEX_INCLUDE;
	tok->path = path;
	tok->path_len = (size_t)(p - path);
	tok->len = (size_t)(p + 1 - tok->at);
	return (0);
bad:
	return (err_set(err, 0, "unexpected \"@\": to include a file, begin a line with @include \"FILE\""));
}

/* Length of the digits at the start of the ${n} bytes at ${p}. */
static size_t
digits(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && is_digit(p[i]); i++)
		continue;
	return (i);
}

static int
is_float(const char *p, size_t n)
{
	size_t whole = digits(p, n), part, power;

	if (whole == 0 || whole == n || p[whole] != '.')
		return (0);
	p += whole + 1;
	n -= whole + 1;
	part = digits(p, n);
	if (part == 0 || part == n)
		return (part != 0);
	if (p[part] != 'e' && p[part] != 'E')
		return (0);
	p += part + 1;
	n -= part + 1;
	if (n > 1 && (*p == '-' || *p == '+')) {
		p++;
		n--;
	}
	power = digits(p, n);
	return (power > 0 && power == n);
}

static int
lex_number(struct lex *lx, struct lex_token *tok, struct err *err)
{
	const char *p = tok->at;
	size_t n, d;
	int is_long;

	while (p < lx->end && (is_alpha(*p) || is_digit(*p) || strchr("+-._", *p) != NULL) && *p != '\0')
		p++;
	tok->len = (size_t)(p - tok->at);
	p = tok->at;
	n = tok->len;
	if (*p == '-' || *p == '+') {
		p++;
		n--;
	}
	if (is_float(p, n)) {
		tok->kind = LEX_FLOAT;
		return (0);
	}
	d = digits(p, n);
	is_long = (n == d + 1 && p[d] == 'L') || (n == d + 2 && p[d] == 'L' && p[d + 1] == 'L');
	if (d == 0 || (n != d && !is_long) || (d > 1 && *p == '0'))
		return (err_set(err, 0, "unexpected \"%.*s\": write numbers in decimal, without leading zeros, "
		    "and strings in quotes", (int)(tok->len < 40 ? tok->len : 40), tok->at));
	if (d > (is_long ? INT64_DIGITS : INT_DIGITS))
		return (err_set(err, 0, "the number %.*s is too large; a size may be a string like \"20G\"",
		    (int)(tok->len < 40 ? tok->len : 40), tok->at));
	tok->kind = is_long ? LEX_INT64 : LEX_INT;
	return (0);
}

static void
lex_name(struct lex *lx, struct lex_token *tok)
{
	const char *p = tok->at;

	while (p < lx->end && is_name(*p))
		p++;
	tok->len = (size_t)(p - tok->at);
	tok->kind = LEX_NAME;
	if ((tok->len == 4 && strncasecmp(tok->at, "true", 4) == 0) || (tok->len == 5 && strncasecmp(tok->at, "false", 5) == 0))
		tok->kind = LEX_BOOL;
}

static int
lex_mark(struct lex_token *tok, struct err *err)
{
	static const char marks[] = "=:{[(}]),;";
	static const enum lex_kind kinds[] = { LEX_EQUALS, LEX_EQUALS, LEX_OPEN, LEX_OPEN, LEX_OPEN, LEX_CLOSE, LEX_CLOSE,
	    LEX_CLOSE, LEX_COMMA, LEX_SEMICOLON };
	const char *m = *tok->at == '\0' ? NULL : strchr(marks, *tok->at);

	if (m == NULL && *tok->at > ' ' && *tok->at < 0x7f)
		return (err_set(err, 0, "unexpected \"%c\": strings stand in quotes", *tok->at));
	if (m == NULL)
		return (err_set(err, 0, "unexpected byte 0x%02x outside of a string", (unsigned char)*tok->at));
	tok->kind = kinds[m - marks];
	tok->len = 1;
	return (0);
}

int
lex_next(struct lex *lx, struct lex_token *tok, struct err *err)
{
	int rc = 0;

	if (skip_blanks(lx, err) == -1)
		return (-1);
	*tok = (struct lex_token){ .kind = LEX_END, .at = lx->p, .line = lx->line };
	if (lx->p == lx->end)
		return (0);
	if (*lx->p == '"')
		rc = lex_string(lx, tok, err);
	else if (*lx->p == '@')
		rc = lex_include(lx, tok, err);
	else if (is_alpha(*lx->p) || *lx->p == '*')
		lex_name(lx, tok);
	else if (is_digit(*lx->p) || strchr("+-.", *lx->p) != NULL)
		rc = lex_number(lx, tok, err);
	else
		rc = lex_mark(tok, err);
	if (rc == -1)
		return (-1);
	lx->p += tok->len;
	lx->fresh = 0;
	return (0);
}
