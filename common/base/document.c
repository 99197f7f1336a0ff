#include "base/document.h"

#include <stdlib.h>
#include <string.h>

#include "repository/naming.h"

json_t *
doc_parse(const char *text, size_t len, const char *what, struct err *err)
{
	json_error_t e;
	json_t *o;

	if ((o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e)) == NULL) {
		err_set(err, 0, "%s is damaged: line %d: %s", what, e.line, e.text);
		return (NULL);
	}
	if (!json_is_object(o)) {
		err_set(err, 0, "%s is damaged: it is not a JSON object", what);
		json_decref(o);
		return (NULL);
	}
	return (o);
}

int
doc_text(const json_t *o, const char *key, const char **out, struct err *err)
{
	if ((*out = json_string_value(json_object_get(o, key))) == NULL)
		return (err_set(err, 0, "\"%s\" is missing or not a string", key));
	return (0);
}

int
doc_size(const json_t *o, const char *key, uint64_t *out, struct err *err)
{
	const json_t *v = json_object_get(o, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return (err_set(err, 0, "\"%s\" is missing or not a whole number", key));
	*out = (uint64_t)json_integer_value(v);
	return (0);
}

int
doc_format_is(const json_t *o, const char *what, struct err *err)
{
	uint64_t format = 0;

	if (doc_size(o, "format", &format, err) == -1)
		return (err_wrap(err, "%s", what));
	if (format != 1)
		return (err_set(err, 0, "%s has format %llu; this program knows format 1: use a newer one", what, (unsigned long long)format));
	return (0);
}

json_t *
doc_string(const char *text)
{
	json_t *s = text != NULL ? json_string(text) : NULL;
	char *copy;

	if (s != NULL || text == NULL || (copy = strdup(text)) == NULL)
		return (s);
	s = json_string(utf8_clean(copy));
	free(copy);
	return (s);
}

int
doc_write(json_t *o, struct buf *out, struct err *err)
{
	char *text = o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL;
	int rc;

	json_decref(o);
	if (text == NULL)
		return (err_nomem(err));
	rc = buf_addf(out, err, "%s\n", text);
	free(text);
	return (rc);
}
