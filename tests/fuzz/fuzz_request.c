/*
 * A request to the daemon: a line with its method, a line with its target, and its body.  It is refused with a reason, or its values are within bounds.
 * A first byte of '{' makes all of it a status object: its metrics are lines that Prometheus reads.
 */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../../backupd/api.h"
#include "../../backupd/api/metrics.h"
#include "../../backupd/api/request.h"
#include "repository/naming.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_request(const char *method, const char *target, const char *body, size_t len)
{
	struct err err = ERR_INIT;
	struct request r;
	int status = request_parse(method, target, &r, &err);

	if (status != 0) {
		assert((status == 400 || status == 404 || status == 405) && err.text[0] != '\0' && (status != 405 || r.allow != NULL));
		return;
	}
	assert(r.acts == (strcmp(method, "POST") == 0));
	assert(r.limit >= 1 && r.limit <= API_LIMIT_MAX && r.next >= 1 && r.next <= API_LIMIT_MAX && r.run >= 0);
	assert(utf8_valid(r.job) && (r.job[0] != '\0' || r.what != REQUEST_JOB_RUN));
	if (request_body(&r, body, len, &err) != 0)
		assert(err.text[0] != '\0');
	else
		assert(utf8_valid(r.domain) && (r.what == REQUEST_JOB_RUN || (!r.full && r.domain[0] == '\0')));
}

/* NAME{LABELS} NUMBER, or a comment. */
static void
check_line(const char *line, size_t n)
{
	bool quoted = false;
	size_t at = 0;
	char *end;

	if (line[0] == '#')
		return;
	assert(strncmp(line, "openvirt_backup_", 16) == 0);
	for (; at < n && (quoted || line[at] != ' '); at++) {
		if (quoted && line[at] == '\\')
			at++;
		else if (line[at] == '"')
			quoted = !quoted;
	}
	assert(!quoted && at < n);
	strtod(line + at + 1, &end);
	assert(end == line + n);
}

static void
check_metrics(const json_t *status)
{
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	const char *line, *end;

	assert(metrics_format(status, &b, &err) == 0 && b.len > 0 && strlen(b.ptr) == b.len);
	for (line = b.ptr; *line != '\0'; line = end + 1) {
		assert((end = strchr(line, '\n')) != NULL);
		check_line(line, (size_t)(end - line));
	}
	buf_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *target, *body;
	json_t *status;

	assert(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	if (text[0] == '{') {
		if ((status = json_loadb(text, size, 0, NULL)) != NULL)
			check_metrics(status);
		json_decref(status);
	} else if ((target = memchr(text, '\n', size)) != NULL && (body = memchr(target + 1, '\n', size - (size_t)(target + 1 - text))) != NULL) {
		*target++ = '\0';
		*body++ = '\0';
		check_request(text, target, body, size - (size_t)(body - text));
	}
	free(text);
	return (0);
}
