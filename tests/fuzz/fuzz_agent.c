/*
 * What comes from a guest by way of libvirt and QEMU's tools.  The first byte says what the rest is:
 *   'F'  the agent's file systems: texts that end with a zero byte, as mount point, name, type, how many disks (its first byte), these
 *   'E'  a byte for libvirt's error code, and what libvirt or the agent said
 *   'C'  a byte for what fails, and a checkpoint's XML
 *   'J'  a backup job's XML
 *   'I'  what qemu-img info says of an image and its backing files
 * What is made of it is text that can be printed, JSON and XML that is whole, or an error with a reason.
 */
#include <assert.h>
#include <jansson.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backupd/checkpoint.h"
#include "backupd/domain_job.h"
#include "backupd/moment.h"
#include "backupd/qemu_nbd.h"
#include "base/tool.h"
#include "domain/xml_doc.h"
#include "repository/manifest.h"
#include "repository/naming.h"

#define CHECKPOINT	"openvirt-backup.nightly.0123abcd"
#define NO_SUCH_PID	0x3fffffff

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_tool_run(const char *const *argv, const char *hint, unsigned int seconds, struct buf *out, struct err *err);
struct freeze_guard *__wrap_freeze_guard_start(const char *uri, const char *uuid, const char *name, unsigned int seconds, struct err *err);
pid_t __wrap_fork(void);
int __wrap_kill(pid_t pid, int sig);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);

static struct {
	char		*text;			/* the rest of the input, with a zero byte behind it */
	size_t		 len;
	uint8_t		 how;
	bool		 ask_fails;
	unsigned int	 forgotten, deleted, defined;	/* checkpoints */
} said;

/* ---- libvirt ---- */

int
virGetLastErrorCode(void)
{
	static const int codes[] = { VIR_ERR_INTERNAL_ERROR, VIR_ERR_AGENT_UNRESPONSIVE, VIR_ERR_OPERATION_INVALID, VIR_ERR_NO_DOMAIN_CHECKPOINT,
		VIR_ERR_NO_DOMAIN_BACKUP, VIR_ERR_RPC };

	return (codes[said.how % 6]);
}

const char *
virGetLastErrorMessage(void)
{
	return (said.text);
}

int
virDomainAgentSetResponseTimeout(virDomainPtr dom, int timeout, unsigned int flags)
{
	assert(dom == NULL && timeout >= -2 && flags == 0);
	return (said.ask_fails && said.how & 64 ? -1 : 0);
}

/* The next text, which is empty at the end. */
static char *
next_text(size_t *at)
{
	char *text = said.text + (*at < said.len ? *at : said.len);

	*at += strlen(text) + 1;
	return (strdup(text));
}

static virDomainFSInfoPtr
next_file_system(size_t *at)
{
	virDomainFSInfoPtr fs = calloc(1, sizeof(*fs));
	char *count;

	assert(fs != NULL);
	fs->mountpoint = next_text(at);
	fs->name = next_text(at);
	fs->fstype = next_text(at);
	count = next_text(at);
	fs->ndevAlias = (size_t)(count[0] & 15);
	fs->devAlias = calloc(fs->ndevAlias + 1, sizeof(*fs->devAlias));
	for (size_t i = 0; i < fs->ndevAlias; i++)
		fs->devAlias[i] = next_text(at);
	free(count);
	return (fs);
}

int
virDomainGetFSInfo(virDomainPtr dom, virDomainFSInfoPtr **info, unsigned int flags)
{
	virDomainFSInfoPtr *v = NULL;
	size_t at = 0;
	int n = 0;

	assert(dom == NULL && flags == 0);
	if (said.ask_fails)
		return (-1);
	while (at < said.len) {
		assert((v = realloc(v, ((size_t)n + 1) * sizeof(*v))) != NULL);
		v[n++] = next_file_system(&at);
	}
	*info = v;
	return (n);
}

void
virDomainFSInfoFree(virDomainFSInfoPtr fs)
{
	for (size_t i = 0; i < fs->ndevAlias; i++)
		free(fs->devAlias[i]);
	free(fs->devAlias);
	free(fs->mountpoint);
	free(fs->name);
	free(fs->fstype);
	free(fs);
}

int
virDomainIsActive(virDomainPtr dom)
{
	assert(dom == NULL);
	return (said.how & 4 ? 0 : 1);
}

int
virDomainGetJobStats(virDomainPtr dom, int *type, virTypedParameterPtr *params, int *n, unsigned int flags)
{
	assert(dom == NULL && flags == 0);
	*type = VIR_DOMAIN_JOB_NONE;
	*params = NULL;
	*n = 0;
	return (0);
}

char *
virDomainBackupGetXMLDesc(virDomainPtr dom, unsigned int flags)
{
	assert(dom == NULL && flags == 0);
	return (said.len == 0 ? NULL : strdup(said.text));
}

/* The checkpoint is any address. */
virDomainCheckpointPtr
virDomainCheckpointLookupByName(virDomainPtr dom, const char *name, unsigned int flags)
{
	assert(dom == NULL && strcmp(name, CHECKPOINT) == 0 && flags == 0);
	return ((virDomainCheckpointPtr)&said);
}

int
virDomainCheckpointFree(virDomainCheckpointPtr cp)
{
	assert(cp == (virDomainCheckpointPtr)&said);
	return (0);
}

char *
virDomainCheckpointGetXMLDesc(virDomainCheckpointPtr cp, unsigned int flags)
{
	assert(cp == (virDomainCheckpointPtr)&said && flags == VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
	return (strdup(said.text));
}

int
virDomainCheckpointDelete(virDomainCheckpointPtr cp, unsigned int flags)
{
	assert(cp == (virDomainCheckpointPtr)&said);
	if (flags == VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) {
		said.forgotten++;
		return (said.how & 1 ? -1 : 0);
	}
	/* All of it cannot be deleted at once. */
	return (said.deleted++ == 0 || said.how & 2 ? -1 : 0);
}

/* What is made of one disk's name is a checkpoint of that disk. */
virDomainCheckpointPtr
virDomainCheckpointCreateXML(virDomainPtr dom, const char *xml, unsigned int flags)
{
	struct err err = ERR_INIT;
	xmlDocPtr doc = xml_doc_parse(xml, strlen(xml), "domaincheckpoint", &err);
	xmlNodePtr disk;
	char *name = NULL;

	assert(dom == NULL && flags == VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE && doc != NULL);
	disk = xml_first(xml_first(xmlDocGetRootElement(doc), "disks"), "disk");
	assert(disk != NULL && xml_next(disk, "disk") == NULL && xml_attribute(disk, "name", &name, &err) == 0 && name != NULL);
	assert(checkpoint_has_disk(said.text, said.len, name));
	free(name);
	xmlFreeDoc(doc);
	return (said.defined++ % 2 && said.how & 8 ? NULL : (virDomainCheckpointPtr)&said);
}

/* ---- what is around it ---- */

/* No guard is started: nothing is frozen. */
struct freeze_guard *
__wrap_freeze_guard_start(const char *uri, const char *uuid, const char *name, unsigned int seconds, struct err *err)
{
	assert(uri != NULL && uuid != NULL && name != NULL && seconds > 0);
	err_set(err, 0, "%s", said.text);
	return (NULL);
}

int
journal_save(struct journal *j, struct err *err)
{
	(void)err;
	return (j == NULL ? -1 : 0);
}

/* qemu-img says what the input has; qemu-nbd is not started. */
int
__wrap_tool_run(const char *const *argv, const char *hint, unsigned int seconds, struct buf *out, struct err *err)
{
	assert(strcmp(argv[0], "qemu-img") == 0 && hint != NULL && seconds > 0);
	return (buf_add(out, said.text, said.len, err));
}

pid_t
__wrap_fork(void)
{
	return (NO_SUCH_PID);
}

int
__wrap_kill(pid_t pid, int sig)
{
	assert(pid == NO_SUCH_PID && sig > 0);
	return (0);
}

pid_t
__wrap_waitpid(pid_t pid, int *status, int options)
{
	assert(pid == NO_SUCH_PID && status == NULL && options == WNOHANG);
	return (-1);
}

/* ---- what has to hold ---- */

/* Somebody will read it in a terminal, and programs in a manifest, which has all of its disks and notes, whatever they say. */
static void
check_text(const char *text)
{
	struct manifest_disk disk = { .target = "vda", .member = "vda.img", .source = text, .format = "raw", .size = 512, .why = text };
	const char *notes[] = { text };
	struct manifest m = { .vm = "web", .kind = "full", .consistency = "quiesced", .capture = "backup", .job = "nightly", .host = "host",
		.program = "program", .freeze_ms = -1, .disks = &disk, .ndisks = 1, .notes = notes, .nnotes = 1,
		.archive = { .id = "id", .file = "disks.tar", .codec = "none", .sha256 = "" } };
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	json_t *o;

	assert(manifest_encode(&m, &out, &err) == 0);
	assert((o = json_loadb(out.ptr, out.len, 0, NULL)) != NULL);
	assert(json_array_size(json_object_get(o, "disks")) == 1 && json_array_size(json_object_get(o, "notes")) == 1);
	json_decref(o);
	buf_free(&out);
}

static void
check_file_systems(const char *text)
{
	json_t *list = json_loads(text, 0, NULL), *fs;
	size_t i;

	assert(json_is_array(list));
	json_array_foreach(list, i, fs)
		assert(json_is_object(fs) && json_is_array(json_object_get(fs, "disks")));
	json_decref(list);
}

static void
check_moment(void)
{
	struct conf_job job = { .quiesce = said.how & 128 ? CONF_QUIESCE_REQUIRED : CONF_QUIESCE_TRY, .quiesce_timeout = 30 };
	struct backup_run run = { .job = &job };
	struct hypervisor hv = { .uri = (char[]){ "qemu:///system" } };
	struct guest g = { .run = &run, .hv = &hv, .name = (char[]){ "web" }, .uuid = (char[]){ "uuid" }, .active = true,
		.desc = { .has_agent = true, .agent_connected = true } };
	struct moment m = MOMENT_INIT;
	struct err err = ERR_INIT;
	int rc = moment_prepare(&m, &g, NULL, &err);

	/* There is no guard, so the guest is never quiesced. */
	assert(m.guard == NULL && (rc == -1) == (job.quiesce == CONF_QUIESCE_REQUIRED));
	assert((g.filesystems != NULL) == !said.ask_fails);
	if (said.ask_fails) {
		assert(m.why[0] != '\0' && strstr(m.why, "agent") != NULL);
		assert(said.len > 300 || utf8_valid(m.why));
	} else
		check_file_systems(g.filesystems);
	check_text(m.why);
	free(g.filesystems);
}

static void
check_checkpoint(void)
{
	struct err err = ERR_INIT;
	bool has = checkpoint_has_disk(said.text, said.len, "vda");

	if (checkpoint_delete(NULL, CHECKPOINT, &err) == -1)
		assert(err.text[0] != '\0');
	else
		assert(said.how & 4 || !has || said.defined > 0);
	assert(said.deleted >= 1);
}

/* Whether each image says the format of its backing file, and the first has a bitmap that is whole and kept up to date. */
static bool
may_be_read(bool *bitmap)
{
	json_t *chain = json_loadb(said.text, said.len, 0, NULL), *image, *b, *flag;
	bool may = json_array_size(chain) > 0, automatic, in_use;
	size_t i, k;

	*bitmap = false;
	json_array_foreach(chain, i, image)
		may = may && json_is_object(image) && (json_object_get(image, "backing-filename") == NULL ||
		    json_is_string(json_object_get(image, "backing-filename-format")));
	json_array_foreach(json_object_get(json_object_get(json_object_get(json_array_get(chain, 0), "format-specific"), "data"), "bitmaps"), i, b) {
		automatic = in_use = false;
		json_array_foreach(json_object_get(b, "flags"), k, flag) {
			automatic = automatic || (json_is_string(flag) && strcmp(json_string_value(flag), "auto") == 0);
			in_use = in_use || (json_is_string(flag) && strcmp(json_string_value(flag), "in-use") == 0);
		}
		*bitmap = *bitmap || (json_is_string(json_object_get(b, "name")) && strcmp(json_string_value(json_object_get(b, "name")), "b") == 0 &&
		    automatic && !in_use);
	}
	json_decref(chain);
	return (may);
}

static char folder[] = "/tmp/fuzz_agent.XXXXXX";	/* of sockets */

static void
remove_folder(void)
{
	rmdir(folder);
}

static void
check_image(void)
{
	struct domain_disk d = { .target = (char[]){ "vda" }, .type = (char[]){ "file" }, .format = (char[]){ "qcow2" },
		.source = (char[]){ "/srv/vda.qcow2" } };
	struct err err = ERR_INIT;
	static bool made;
	struct qemu_nbd *q;
	bool may, bitmap;

	if (!made) {
		made = mkdtemp(folder) != NULL && atexit(remove_folder) == 0;
		assert(made);
	}
	may = may_be_read(&bitmap);
	q = qemu_nbd_start(&d, NULL, "b", folder, &err);
	assert((q == NULL) == !may);
	if (q == NULL)
		assert(err.text[0] != '\0' && (strstr(err.text, "(null)") == NULL || strstr(said.text, "null") != NULL));
	else
		assert(qemu_nbd_bitmap(q) == NULL || bitmap);
	qemu_nbd_stop(q);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	bool with_code;
	uint8_t kind;

	if (size < 2)
		return (0);
	kind = data[0];
	with_code = kind == 'E' || kind == 'C';
	memset(&said, 0, sizeof(said));
	said.how = with_code ? data[1] : 0;
	said.ask_fails = kind == 'E';
	said.len = size - 1 - with_code;
	assert((said.text = malloc(said.len + 1)) != NULL);
	memcpy(said.text, data + 1 + with_code, said.len);
	said.text[said.len] = '\0';
	/* From libvirt they are texts. */
	if (kind != 'F' && kind != 'I')
		said.len = strlen(said.text);
	if (kind == 'F' || kind == 'E')
		check_moment();
	else if (kind == 'C')
		check_checkpoint();
	else if (kind == 'J')
		assert(domain_job_is_backup_of(NULL, "0123abcd", &err) == (said.len > 0 ? strstr(said.text, "0123abcd") != NULL : -1));
	else if (kind == 'I')
		check_image();
	free(said.text);
	return (0);
}
