#include "request.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../api.h"
#include "repository/naming.h"

#define PATH_PARTS	4u	/* of the longest path, without the first slash */
#define PART_MAX	1024u	/* bytes of one part while it is taken apart */

static const struct route {
	const char		*parts[PATH_PARTS + 1];	/* "*": a name, "#": a number */
	enum request_what	 what;
	bool			 acts;
} routes[] = {
	{ { "v1", "status" }, REQUEST_STATUS, false },
	{ { "v1", "jobs" }, REQUEST_JOBS, false },
	{ { "v1", "history" }, REQUEST_HISTORY, false },
	{ { "v1", "schedule" }, REQUEST_SCHEDULE, false },
	{ { "v1", "runs", "#" }, REQUEST_RUN_STATE, false },
	{ { "v1", "runs", "#", "log" }, REQUEST_RUN_LOG, false },
	{ { "metrics" }, REQUEST_METRICS, false },
	{ { "v1", "jobs", "*", "run" }, REQUEST_JOB_RUN, true },
	{ { "v1", "runs", "#", "cancel" }, REQUEST_RUN_CANCEL, true },
	{ { "v1", "pause" }, REQUEST_PAUSE, true },
	{ { "v1", "resume" }, REQUEST_RESUME, true },
	{ { "v1", "notify-test" }, REQUEST_NOTIFY_TEST, true },
	{ { "v1", "notify-test", "#" }, REQUEST_NOTIFY_RESULT, false },
};

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	c |= 0x20;
	return (c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1);
}

/* Undo the %-encoding of ${n} bytes.  Nothing may come out of it that is no text, as names go into JSON and onto terminals. */
static int
decode(const char *in, size_t n, char *out, size_t size)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		char c = in[i];

		if (c == '%') {
			int high = n - i < 3 ? -1 : hex_digit(in[i + 1]), low = n - i < 3 ? -1 : hex_digit(in[i + 2]);

			if (high < 0 || low < 0)
				return (-1);
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (c == '\0' || k + 1 >= size)
			return (-1);
		out[k++] = c;
	}
	out[k] = '\0';
	return (utf8_valid(out) ? 0 : -1);
}

/* Digits alone: strtoll() would take signs and spaces. */
static int
parse_number(const char *text, int64_t most, int64_t *out)
{
	int64_t v = 0;

	if (*text == '\0' || strspn(text, "0123456789") != strlen(text))
		return (-1);
	for (; *text != '\0'; text++) {
		if (v > (most - (*text - '0')) / 10)
			return (-1);
		v = v * 10 + (*text - '0');
	}
	*out = v;
	return (0);
}

static int
set_count(unsigned int *out, const char *key, const char *value, struct err *err)
{
	int64_t n;

	if (parse_number(value, API_LIMIT_MAX, &n) == -1 || n == 0) {
		err_set(err, 0, "\"%s\" is a number from 1 to %u", key, API_LIMIT_MAX);
		return (400);
	}
	*out = (unsigned int)n;
	return (0);
}

static int
set_name(char out[REQUEST_NAME], const char *key, const char *value, struct err *err)
{
	if (*value == '\0' || strlen(value) >= REQUEST_NAME || !utf8_valid(value)) {
		err_set(err, 0, "\"%s\" is a name of 1 to %u bytes, without control characters", key, REQUEST_NAME - 1);
		return (400);
	}
	memcpy(out, value, strlen(value) + 1);
	return (0);
}

static int
set_flag(bool *out, const char *key, const char *value, struct err *err)
{
	if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
		err_set(err, 0, "\"%s\" is true or false", key);
		return (400);
	}
	*out = value[0] == 't';
	return (0);
}

static int
set_parameter(struct request *r, const char *key, const char *value, struct err *err)
{
	if (r->what == REQUEST_HISTORY && strcmp(key, "job") == 0)
		return (set_name(r->job, key, value, err));
	if (r->what == REQUEST_HISTORY && strcmp(key, "limit") == 0)
		return (set_count(&r->limit, key, value, err));
	if (r->what == REQUEST_SCHEDULE && strcmp(key, "next") == 0)
		return (set_count(&r->next, key, value, err));
	if (r->what == REQUEST_RUN_STATE && strcmp(key, "follow") == 0)
		return (set_flag(&r->follow, key, value, err));
	err_set(err, 0, "there is no parameter \"%s\" here", key);
	return (400);
}

static int
parse_query(struct request *r, const char *q, struct err *err)
{
	char key[PART_MAX], value[PART_MAX];
	int status = 0;

	while (*q != '\0' && status == 0) {
		size_t n = strcspn(q, "&"), k = strcspn(q, "=");

		if (k > n)
			k = n;
		if (decode(q, k, key, sizeof(key)) == -1 || decode(q + k + (k < n), n - k - (k < n), value, sizeof(value)) == -1) {
			err_set(err, 0, "the query is not %%-encoded UTF-8");
			return (400);
		}
		if (n > 0)
			status = set_parameter(r, key, value, err);
		q += n + (q[n] == '&');
	}
	return (status);
}

/* Cut the path into its parts, still encoded.  Returns how many, or PATH_PARTS + 1 for more. */
static size_t
split_path(const char *path, size_t len, const char *parts[PATH_PARTS], size_t lengths[PATH_PARTS])
{
	size_t n = 0;

	for (size_t at = 1; at <= len; at += lengths[n - 1] + 1) {
		if (n == PATH_PARTS)
			return (PATH_PARTS + 1);
		parts[n] = path + at;
		lengths[n] = strcspn(path + at, "/?");
		n++;
	}
	return (n);
}

/* Whether the path is of the route ${t}; what its names and numbers are goes into ${r}. */
static bool
matches(const struct route *t, size_t n, const char *const parts[], const size_t lengths[], struct request *r)
{
	char text[REQUEST_NAME];

	for (size_t i = 0; i < n; i++) {
		if (t->parts[i] == NULL || decode(parts[i], lengths[i], text, sizeof(text)) == -1 || text[0] == '\0')
			return (false);
		if (t->parts[i][0] == '*')
			memcpy(r->job, text, sizeof(text));
		else if (t->parts[i][0] == '#') {
			if (parse_number(text, INT64_MAX, &r->run) == -1)
				return (false);
		} else if (strcmp(t->parts[i], text) != 0)
			return (false);
	}
	return (t->parts[n] == NULL);
}

int
request_parse(const char *method, const char *target, struct request *r, struct err *err)
{
	size_t path = strcspn(target, "?"), lengths[PATH_PARTS], n;
	const char *parts[PATH_PARTS];

	memset(r, 0, sizeof(*r));
	r->limit = API_LIMIT;
	r->next = API_NEXT;
	n = target[0] == '/' ? split_path(target, path, parts, lengths) : 0;
	for (size_t i = 0; n > 0 && n <= PATH_PARTS && i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (!matches(&routes[i], n, parts, lengths, r))
			continue;
		r->what = routes[i].what;
		r->acts = routes[i].acts;
		r->allow = r->acts ? "POST" : "GET, HEAD";
		if (strcmp(method, "POST") != 0 ? r->acts || (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) : !r->acts) {
			err_set(err, 0, "this path takes %s only", r->acts ? "POST" : "GET and HEAD");
			return (405);
		}
		return (target[path] == '?' ? parse_query(r, target + path + 1, err) : 0);
	}
	err_set(err, 0, "there is nothing at this path; see API.md");
	return (404);
}

static int
set_key(struct request *r, const char *key, const json_t *value, struct err *err)
{
	if (r->what == REQUEST_JOB_RUN && strcmp(key, "full") == 0 && json_is_boolean(value)) {
		r->full = json_is_true(value);
		return (0);
	}
	if (r->what == REQUEST_JOB_RUN && strcmp(key, "domain") == 0) {
		if (json_is_null(value))
			return (0);
		if (json_is_string(value))
			return (set_name(r->domain, key, json_string_value(value), err));
	}
	if (r->what == REQUEST_NOTIFY_TEST && strcmp(key, "job") == 0 && (json_is_null(value) || json_is_string(value)))
		return (json_is_null(value) ? 0 : set_name(r->job, key, json_string_value(value), err));
	err_set(err, 0, r->what == REQUEST_NOTIFY_TEST ? "a body here has \"job\", a name; not this \"%s\"" : r->what == REQUEST_JOB_RUN ? "a body here has \"domain\", a name, and \"full\", true or false; not this \"%s\"" :
	    "a body here is empty; it has no \"%s\"", key);
	return (400);
}

int
request_body(struct request *r, const char *text, size_t len, struct err *err)
{
	int status = 0;
	const char *key;
	json_error_t je;
	json_t *o, *value;

	if (len == 0)
		return (0);
	if ((o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je)) == NULL || !json_is_object(o)) {
		err_set(err, 0, "the body is no JSON object%s%s", o == NULL ? ": " : "", o == NULL ? je.text : "");
		json_decref(o);
		return (400);
	}
	json_object_foreach(o, key, value) {
		if ((status = set_key(r, key, value, err)) != 0)
			break;
	}
	json_decref(o);
	return (status);
}
