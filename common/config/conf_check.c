#include "config/conf_check.h"

#include <stdio.h>
#include <string.h>

#include "config/conf.h"

static int
unexpected(const struct check *c, const struct lex_token *tok, const char *expected, struct err *err)
{
	const struct check_level *lv = &c->level[c->depth];
	char what[64];

	if (tok->kind == LEX_END && c->depth > 0)
		return (err_set(err, 0, "the file ends, but the \"%c\" of %s:%d is not closed", lv->open, lv->file, lv->line));
	if (tok->kind == LEX_END)
		snprintf(what, sizeof(what), "end of the file");
	else
		snprintf(what, sizeof(what), "\"%.*s\"", (int)(tok->len < 40 ? tok->len : 40), tok->at);
	if (c->key[0] == '\0')
		return (err_set(err, 0, "unexpected %s: expected %s", what, expected));
	return (err_set(err, 0, "%s: unexpected %s: expected %s", c->key, what, expected));
}

static int
check_key(struct check *c, const struct lex_token *tok, const char *text, size_t at, struct err *err)
{
	struct check_level *lv = &c->level[c->depth];
	size_t i;

	snprintf(c->key, sizeof(c->key), "%.*s", (int)(tok->len < sizeof(c->key) ? tok->len : sizeof(c->key) - 1), tok->at);
	for (i = 0; i < lv->n; i++) {
		if (lv->keys[i].len == tok->len && memcmp(text + lv->keys[i].at, tok->at, tok->len) == 0)
			return (err_set(err, 0, "%s: given twice in one group: remove one", c->key));
	}
	if (lv->n == CHECK_MAX_KEYS)
		return (err_set(err, 0, "%s: more than %d keys in one group", c->key, CHECK_MAX_KEYS));
	lv->keys[lv->n].at = at;
	lv->keys[lv->n++].len = tok->len;
	c->want = CHECK_EQUALS;
	return (0);
}

static int
check_open(struct check *c, const struct lex_token *tok, const char *file, struct err *err)
{
	struct check_level *lv;

	if (c->depth == CHECK_MAX_DEPTH)
		return (err_set(err, 0, "%s: more than %d brackets inside each other", c->key, CHECK_MAX_DEPTH));
	lv = &c->level[++c->depth];
	lv->open = *tok->at;
	lv->file = file;
	lv->line = tok->line;
	lv->n = 0;
	c->want = lv->open == '{' ? CHECK_KEY : CHECK_VALUE;
	return (0);
}

static int
check_close(struct check *c, const struct lex_token *tok, struct err *err)
{
	static const char *const expected[] = { "\"}\"", "\"]\"", "\")\"" };
	char open = c->level[c->depth].open;
	int i = open == '{' ? 0 : open == '[' ? 1 : 2;

	if (c->depth == 0)
		return (unexpected(c, tok, "a key", err));
	if (*tok->at != expected[i][1])
		return (unexpected(c, tok, expected[i], err));
	c->depth--;
	c->want = CHECK_AFTER;
	return (0);
}

static int
check_value(struct check *c, const struct lex_token *tok, const char *file, struct err *err)
{
	struct check_level *lv = &c->level[c->depth];
	int plain = tok->kind == LEX_STRING || tok->kind == LEX_INT || tok->kind == LEX_INT64 || tok->kind == LEX_FLOAT ||
	    tok->kind == LEX_BOOL;

	if (tok->kind == LEX_CLOSE && lv->open != '{' && lv->n == 0)
		return (check_close(c, tok, err));
	if (tok->kind == LEX_CLOSE && c->last == LEX_COMMA)
		return (unexpected(c, tok, "a value after the comma", err));
	if (!plain && tok->kind != LEX_OPEN)
		return (unexpected(c, tok, "a value (strings stand in quotes)", err));
	if (lv->open == '[' && !plain)
		return (unexpected(c, tok, "a plain value, as nothing else can stand in [ ]", err));
	if (lv->open == '[' && lv->n > 0 && tok->kind != lv->kind)
		return (unexpected(c, tok, "a value of the same type as the others in [ ]", err));
	if (lv->open != '{' && lv->n++ == CONF_MAX_ENTRIES)
		return (err_set(err, 0, "%s: more than %d entries", c->key, CONF_MAX_ENTRIES));
	lv->kind = tok->kind;
	if (!plain)
		return (check_open(c, tok, file, err));
	c->want = CHECK_AFTER;
	return (0);
}

void
check_init(struct check *c)
{
	memset(c, 0, sizeof(*c));
	c->level[0].open = '{';		/* the file is a group without brackets */
}

int
check_token(struct check *c, const struct lex_token *tok, const char *text, size_t at, const char *file, struct err *err)
{
	int in_group = c->level[c->depth].open == '{';
	int rc;

	if (c->want == CHECK_AFTER && tok->kind == LEX_STRING && c->last == LEX_STRING) {
		rc = 0;		/* "a" "b" is one string */
	} else if (c->want == CHECK_EQUALS) {
		c->want = CHECK_VALUE;
		rc = tok->kind == LEX_EQUALS ? 0 : unexpected(c, tok, "\"=\"", err);
	} else if (c->want == CHECK_VALUE) {
		rc = check_value(c, tok, file, err);
	} else if (tok->kind == LEX_CLOSE) {
		rc = check_close(c, tok, err);
	} else if (c->want == CHECK_AFTER && in_group && (tok->kind == LEX_SEMICOLON || tok->kind == LEX_COMMA)) {
		c->want = CHECK_KEY;
		rc = 0;
	} else if (c->want == CHECK_AFTER && !in_group && tok->kind == LEX_COMMA) {
		c->want = CHECK_VALUE;
		rc = 0;
	} else if (in_group && tok->kind == LEX_NAME) {
		rc = check_key(c, tok, text, at, err);
	} else if (c->depth == 0 && tok->kind == LEX_END) {
		rc = 0;
	} else if (!in_group) {
		rc = unexpected(c, tok, "\",\" or the closing bracket", err);
	} else {
		rc = unexpected(c, tok, c->want == CHECK_KEY ? "a key" : "\";\" or the next key", err);
	}
	c->last = tok->kind;
	return (rc);
}
