#include "config/conf_get.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "jobs[2].keep.last", as far as it fits. */
static void
setting_path(const config_setting_t *s, struct buf *path, struct err *err)
{
	const config_setting_t *chain[CHECK_MAX_DEPTH + 2];
	size_t n;

	for (n = 0; s != NULL && !config_setting_is_root(s) && n < sizeof(chain) / sizeof(chain[0]); s = config_setting_parent(s))
		chain[n++] = s;
	while (n-- > 0) {
		if (config_setting_name(chain[n]) != NULL)
			buf_addf(path, err, "%s%.64s", path->len > 0 ? "." : "", config_setting_name(chain[n]));
		else
			buf_addf(path, err, "[%d]", config_setting_index(chain[n]));
	}
}

int
conf_fail(const struct conf_text *t, const config_setting_t *s, struct err *err, const char *fmt, ...)
{
	const config_setting_t *parent = config_setting_parent(s);
	const config_setting_t *at = parent != NULL && config_setting_is_array(parent) ? parent : s;
	struct conf_where w = conf_text_where(t, (int)config_setting_source_line(at));
	struct buf path = BUF_INIT;
	char text[sizeof(err->text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	setting_path(s, &path, err);
	err_set(err, 0, "%s:%d: %s%s%s", w.file, w.line, path.len > 0 ? path.ptr : "", path.len > 0 ? ": " : "", text);
	buf_free(&path);
	return (-1);
}

int
conf_mistyped(const struct conf_text *t, const config_setting_t *s, const char *expected, struct err *err)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
		return (conf_fail(t, s, err, "expected %s, not %d", expected, config_setting_get_int(s)));
	case CONFIG_TYPE_INT64:
		return (conf_fail(t, s, err, "expected %s, not %lldL", expected, config_setting_get_int64(s)));
	case CONFIG_TYPE_FLOAT:
		return (conf_fail(t, s, err, "expected %s, not %g", expected, config_setting_get_float(s)));
	case CONFIG_TYPE_BOOL:
		return (conf_fail(t, s, err, "expected %s, not %s", expected, config_setting_get_bool(s) ? "true" : "false"));
	case CONFIG_TYPE_STRING:
		return (conf_fail(t, s, err, "expected %s, not a string", expected));
	case CONFIG_TYPE_GROUP:
		return (conf_fail(t, s, err, "expected %s, not a group { }", expected));
	case CONFIG_TYPE_ARRAY:
		return (conf_fail(t, s, err, "expected %s, not an array [ ]", expected));
	default:
		return (conf_fail(t, s, err, "expected %s, not a list ( )", expected));
	}
}

struct conf_where
conf_place(const struct conf_text *t, const config_setting_t *group, const char *key)
{
	const config_setting_t *s = config_setting_get_member(group, key);

	return (s == NULL ? (struct conf_where){ NULL, 0 } : conf_text_where(t, (int)config_setting_source_line(s)));
}

int
conf_known_keys(const struct conf_text *t, const config_setting_t *group, const char *const *known, struct err *err)
{
	struct buf names = BUF_INIT;
	const config_setting_t *s;
	unsigned int i;
	size_t k;

	for (i = 0; (s = config_setting_get_elem(group, i)) != NULL; i++) {
		for (k = 0; known[k] != NULL && strcmp(known[k], config_setting_name(s)) != 0; k++)
			continue;
		if (known[k] != NULL)
			continue;
		for (k = 0; known[k] != NULL; k++)
			buf_addf(&names, err, "%s%s", k > 0 ? ", " : "", known[k]);
		conf_fail(t, s, err, "unknown key; known here: %s", names.len > 0 ? names.ptr : "");
		buf_free(&names);
		return (-1);
	}
	return (0);
}

int
conf_get_text(const struct conf_text *t, const config_setting_t *s, char **out, struct err *err)
{
	const char *v, *p;

	if (config_setting_type(s) != CONFIG_TYPE_STRING)
		return (conf_mistyped(t, s, "a string", err));
	v = config_setting_get_string(s);
	if (v == NULL || *v == '\0')
		return (conf_fail(t, s, err, "the string is empty: give a value or remove it"));
	for (p = v; *p != '\0'; p++) {
		if (iscntrl((unsigned char)*p))
			return (conf_fail(t, s, err, "the string holds the control character 0x%02x: remove it",
			    (unsigned char)*p));
	}
	if ((*out = strdup(v)) == NULL)
		return (err_nomem(err));
	return (0);
}

int
conf_get_string(const struct conf_text *t, const config_setting_t *group, const char *key, char **out, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);

	return (s == NULL ? 0 : conf_get_text(t, s, out, err));
}

int
conf_get_strings(const struct conf_text *t, const config_setting_t *group, const char *key, struct conf_strings *out,
    struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);
	const config_setting_t *e;
	int i, n;

	if (s == NULL)
		return (0);
	if (!config_setting_is_array(s))
		return (conf_mistyped(t, s, "an array of strings like [ \"a\", \"b\" ]", err));
	if ((n = config_setting_length(s)) == 0)
		return (conf_fail(t, s, err, "the array is empty: put a string into it or remove the key"));
	if ((out->v = calloc((size_t)n, sizeof(*out->v))) == NULL)
		return (err_nomem(err));
	for (i = 0; i < n; i++) {
		if ((e = config_setting_get_elem(s, (unsigned int)i)) == NULL || conf_get_text(t, e, &out->v[i], err) == -1)
			return (-1);
		out->n++;
	}
	return (0);
}

int
conf_get_int(const struct conf_text *t, const config_setting_t *group, const char *key, int min, int max, int *out,
    struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);
	char expected[64];
	int n;

	if (s == NULL)
		return (0);
	snprintf(expected, sizeof(expected), "a whole number from %d to %d", min, max);
	if (config_setting_type(s) != CONFIG_TYPE_INT)
		return (conf_mistyped(t, s, expected, err));
	n = config_setting_get_int(s);
	if (n < min || n > max)
		return (conf_mistyped(t, s, expected, err));
	*out = n;
	return (0);
}

/* "20G" in bytes, or -1. */
static int64_t
size_parse(const char *p)
{
	static const char units[] = "KMGT";
	size_t digits = strspn(p, "0123456789");
	const char *unit = p + digits;
	int64_t n = 0;
	int shift;

	if (digits < 1 || digits > 18 || (digits > 1 && p[0] == '0'))
		return (-1);
	for (; p < unit; p++)
		n = n * 10 + (*p - '0');
	if (*unit == '\0')
		return (n);
	if (strchr(units, *unit) == NULL || unit[1] != '\0')
		return (-1);
	shift = 10 * (int)(strchr(units, *unit) - units + 1);
	return (n > INT64_MAX >> shift ? -1 : n << shift);
}

int
conf_get_size(const struct conf_text *t, const config_setting_t *group, const char *key, uint64_t min, uint64_t *out,
    struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);
	bool whole = min % ((uint64_t)1 << 20) == 0;
	char expected[96];
	int64_t n = -1;

	if (s == NULL)
		return (0);
	snprintf(expected, sizeof(expected), "a size like \"512M\", \"20G\" or \"1T\" of at least \"%" PRIu64 "%s\", or 0",
	    min >> (whole ? 20 : 10), whole ? "M" : "K");
	if (config_setting_type(s) == CONFIG_TYPE_STRING)
		n = size_parse(config_setting_get_string(s));
	else if (config_setting_type(s) == CONFIG_TYPE_INT || config_setting_type(s) == CONFIG_TYPE_INT64)
		n = config_setting_get_int64(s);
	if (n == 0 || (n > 0 && (uint64_t)n >= min)) {
		*out = (uint64_t)n;
		return (0);
	}
	if (config_setting_type(s) == CONFIG_TYPE_STRING)
		return (conf_fail(t, s, err, "expected %s, not \"%.100s\"", expected, config_setting_get_string(s)));
	return (conf_mistyped(t, s, expected, err));
}

int
conf_get_path(const struct conf_text *t, const config_setting_t *group, const char *key, char **out, struct err *err)
{
	if (conf_get_string(t, group, key, out, err) == -1)
		return (-1);
	if (*out != NULL && (*out)[0] != '/')
		return (conf_fail(t, config_setting_get_member(group, key), err, "\"%.100s\": expected an absolute path", *out));
	return (0);
}

int
conf_get_bool(const struct conf_text *t, const config_setting_t *group, const char *key, int *out, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);

	if (s == NULL)
		return (0);
	if (config_setting_type(s) != CONFIG_TYPE_BOOL)
		return (conf_mistyped(t, s, "true or false", err));
	*out = config_setting_get_bool(s) != 0;
	return (0);
}

int
conf_get_choice(const struct conf_text *t, const config_setting_t *group, const char *key, const char *const *names, int *out,
    struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, key);
	struct buf list = BUF_INIT;
	int i, rc = -1;

	if (s == NULL)
		return (0);
	for (i = 0; names[i] != NULL; i++) {
		if (buf_addf(&list, err, "%s\"%s\"", i == 0 ? "" : names[i + 1] == NULL ? " or " : ", ", names[i]) == -1)
			goto out;
	}
	if (config_setting_type(s) != CONFIG_TYPE_STRING) {
		conf_mistyped(t, s, list.ptr, err);
		goto out;
	}
	for (i = 0; names[i] != NULL && strcmp(names[i], config_setting_get_string(s)) != 0; i++)
		continue;
	if (names[i] == NULL) {
		conf_fail(t, s, err, "expected %s, not \"%.100s\"", list.ptr, config_setting_get_string(s));
		goto out;
	}
	*out = i;
	rc = 0;
out:
	buf_free(&list);
	return (rc);
}

int
conf_get_name(const struct conf_text *t, const config_setting_t *group, char **out, struct err *err)
{
	const config_setting_t *s = config_setting_get_member(group, "name");
	const char *v;

	if (s == NULL)
		return (conf_fail(t, group, err, "has no name: add name = \"...\";"));
	if (conf_get_text(t, s, out, err) == -1 || (v = *out) == NULL)
		return (-1);
	if (v[0] == '.' || v[strspn(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] != '\0')
		return (conf_fail(t, s, err, "\"%.100s\": a name has letters, digits, \".\", \"_\" and \"-\" only, "
		    "and no \".\" first", v));
	if (strlen(v) > CONF_MAX_NAME)
		return (conf_fail(t, s, err, "a name has at most %d bytes, this one has %zu", CONF_MAX_NAME, strlen(v)));
	return (0);
}

void
conf_strings_free(struct conf_strings *s)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct conf_strings){ NULL, 0 };
}
