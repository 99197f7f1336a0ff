/* A manifest: any bytes are refused with a reason, or give a manifest that is written and read again as the same one. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "repository/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct manifest *m)
{
	uint8_t id[16];
	char again[UUID_LEN];

	assert(m->vm != NULL && m->kind != NULL && m->consistency != NULL && m->capture != NULL && m->job != NULL && m->host != NULL);
	assert(strchr(m->archive.file, '/') == NULL && strncmp(m->archive.file, "disks.tar", 9) == 0);
	assert(uuid_parse(m->archive.id, id) == 0);
	uuid_text(id, again);
	assert(strcmp(again, m->archive.id) == 0 && strlen(m->archive.sha256) == SHA256_HEX - 1);
	assert(m->archive.size <= INT64_MAX && m->archive.raw <= INT64_MAX && m->stored <= INT64_MAX);
	for (size_t i = 0; i < m->ndisks; i++)
		assert(m->disks[i].target != NULL && m->disks[i].member != NULL && m->disks[i].size <= INT64_MAX);
	for (size_t i = 0; i < m->nmembers; i++)
		assert(m->members[i].name != NULL && m->members[i].size <= INT64_MAX);
	for (size_t i = 0; i < m->nnotes; i++)
		assert(m->notes[i] != NULL);
	for (size_t i = 0; i < m->nreferences; i++) {
		assert(m->references[i] != NULL);
		(void)uuid_parse(m->references[i], id);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest m = MANIFEST_INIT, again = MANIFEST_INIT;
	struct buf one = BUF_INIT, two = BUF_INIT;
	struct err err = ERR_INIT;

	if (manifest_decode(&m, (const char *)data, size, &err) == -1) {
		assert(err.text[0] != '\0' && m.json == NULL);
		return (0);
	}
	check(&m);
	assert(manifest_encode(&m, &one, &err) == 0);
	assert(manifest_decode(&again, one.ptr, one.len, &err) == 0);
	assert(manifest_encode(&again, &two, &err) == 0);
	assert(one.len == two.len && memcmp(one.ptr, two.ptr, one.len) == 0);
	assert(again.ndisks == m.ndisks && again.nmembers == m.nmembers && again.nnotes == m.nnotes && again.nreferences == m.nreferences && again.time == m.time);
	buf_free(&one);
	buf_free(&two);
	manifest_free(&again);
	manifest_free(&m);
	return (0);
}
