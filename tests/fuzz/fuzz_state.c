/*
 * What the daemon hears of its workers, and what it and they find in the state folder.  The first byte says what the rest is:
 *   'W'  lines of a worker's pipe     'N'  a worker's notes, which the daemon reads when it has not heard it     'J'  a guest's journal
 * What is made of it is within its bounds, and can be told by the interface; what cannot be used is refused with a reason, or counts for nothing.
 */
#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backupd/daemon/ops_json.h"
#include "backupd/daemon/run_log.h"
#include "backupd/daemon/worker_event.h"
#include "backupd/journal.h"

#define UUID	"00000000-0000-4000-8000-000000000000"
#define NOW	INT64_C(1793000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "/dev/shm/fuzz_state.XXXXXX", notes[64], journal[96];

static void
remove_folder(void)
{
	static const char *const names[] = { "log/1.result", "journal/" UUID ".json", "journal/" UUID ".lock", "log", "journal", "" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		assert(remove(path) == 0 || names[i][0] != '\0');
	}
}

static void
make_folders(void)
{
	struct err err = ERR_INIT;

	assert(mkdtemp(folder) != NULL && setenv("STATE_DIRECTORY", folder, 1) == 0);
	snprintf(notes, sizeof(notes), "%s/log", folder);
	assert(mkdir(notes, 0700) == 0);
	snprintf(notes, sizeof(notes), "%s/log/1.result", folder);
	snprintf(journal, sizeof(journal), "%s/journal", folder);
	assert(mkdir(journal, 0700) == 0 && err.code == 0);
	snprintf(journal, sizeof(journal), "%s/journal/" UUID ".json", folder);
	assert(atexit(remove_folder) == 0);
}

static void
write_file(const char *path, const char *p, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert(fd != -1 && write(fd, p, n) == (ssize_t)n && close(fd) == 0);
}

#define assert_text(a)	assert(memchr((a), '\0', sizeof(a)) != NULL)

/* What the interface says of it is JSON, whatever the worker said. */
static void
check_told(const struct worker *w, const struct machine *m)
{
	const struct run r = { .id = 1, .job = "nightly", .state = RUN_RUNNING, .started = NOW, .finished = RUN_NO_TIME, .due = RUN_NO_TIME,
		.queued = NOW, .not_before = RUN_NO_TIME };
	json_t *o = m != NULL ? ops_record(&r, m) : ops_run(&r, w, NOW);
	char *text;

	assert(o != NULL && (text = json_dumps(o, 0)) != NULL);
	free(text);
	json_decref(o);
}

static void
take_line(struct worker *w, const char *line, int64_t when)
{
	char text[RUN_TEXT_LEN] = "";
	struct machine m = { .run = -1 };
	int64_t before = w->succeeded + w->failed;
	enum worker_event_kind kind = worker_event(w, line, when, &m, text, sizeof(text));

	assert_text(text);
	assert_text(w->vm);
	assert_text(w->phase);
	assert_text(w->failure);
	assert(w->done >= 0 && w->total >= 0 && w->rate >= 0 && w->limit >= 0 && w->left >= 0 && w->machines >= -1);
	assert(w->succeeded + w->failed <= before + 1);
	check_told(w, NULL);
	if (kind == WORKER_EVENT_MACHINE) {
		assert_text(m.vm);
		assert_text(m.point);
		assert_text(m.kind);
		assert_text(m.consistency);
		assert_text(m.error);
		assert(m.vm[0] != '\0' && m.finished == when && m.read >= 0 && m.stored >= 0 && m.sent >= 0 && m.frozen_ms >= -1 && text[0] != '\0');
		assert(m.state == RUN_SUCCEEDED || m.state == RUN_FAILED);
		check_told(w, &m);
	}
	if (kind == WORKER_EVENT_TEXT || kind == WORKER_EVENT_SENT)
		assert(text[0] != '\0');
}

static void
check_lines(char *text)
{
	struct worker w = { .run = 1, .machines = -1, .at = WORKER_RUNS };
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		take_line(&w, line, NOW);
}

static void
on_event(void *arg, int64_t when, const char *event)
{
	assert(strchr(event, '\n') == NULL);
	take_line(arg, event, when);
}

static void
check_notes(const char *text, size_t n)
{
	struct worker w = { .run = 1, .machines = -1, .at = WORKER_RUNS };
	char why[RUN_TEXT_LEN] = "";
	int status;

	write_file(notes, text, n);
	status = run_result_get(1, why, sizeof(why));
	assert(status >= -1 && status <= 2);
	assert_text(why);
	run_result_each(1, on_event, &w);
}

static void
check_journal(const char *text, size_t n)
{
	struct err err = ERR_INIT;
	struct journal *j, *again;
	size_t overlays;

	write_file(journal, text, n);
	if ((j = journal_resume(UUID, &err)) == NULL) {
		assert(strstr(err.text, "journal") != NULL);
		return;
	}
	assert(j->uri != NULL && j->name != NULL && strcmp(j->uuid, UUID) == 0 && strlen(j->token) == JOURNAL_TOKEN_LEN - 1);
	for (size_t i = 0; i < j->noverlays; i++)
		assert(j->overlays[i].target != NULL && j->overlays[i].base != NULL && j->overlays[i].overlay != NULL && j->overlays[i].format != NULL);
	/* What it says outlives being written again. */
	overlays = j->noverlays;
	assert(journal_save(j, &err) == 0);
	journal_end(j, false);
	assert((again = journal_resume(UUID, &err)) != NULL && again->noverlays == overlays);
	journal_end(again, true);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return (0);
	if (notes[0] == '\0')
		make_folders();
	assert((text = malloc(size)) != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] == 'W')
		check_lines(text);
	else if (data[0] == 'N')
		check_notes(text, size - 1);
	else if (data[0] == 'J')
		check_journal(text, size - 1);
	free(text);
	return (0);
}
