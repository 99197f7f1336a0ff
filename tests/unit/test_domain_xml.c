/* Domain XML: what is read from it, what it becomes, and what is refused.  The samples are the fuzz target's corpus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "domain/domain_xml.h"
#include "domain/xml_doc.h"
#include "repository/manifest.h"

#define CORPUS	"tests/fuzz/corpus/domain_xml/"

static char *
sample(const char *name)
{
	char path[256], *text = calloc(1, 65536);
	FILE *f;

	snprintf(path, sizeof(path), CORPUS "%s", name);
	assert_non_null(f = fopen(path, "rb"));
	assert_true(fread(text, 1, 65535, f) > 0);
	fclose(f);
	return (text);
}

static void
describe(struct domain_desc *d, const char *xml)
{
	struct err err = ERR_INIT;

	if (domain_desc_parse(d, xml, strlen(xml), &err) == -1)
		fail_msg("%s", err.text);
}

static void
describe_sample(struct domain_desc *d, const char *name)
{
	char *xml = sample(name);

	describe(d, xml);
	free(xml);
}

static void
rewrite(struct buf *out, const char *xml, const struct domain_change *c)
{
	struct err err = ERR_INIT;

	if (domain_rewrite(xml, strlen(xml), c, out, &err) == -1)
		fail_msg("%s", err.text);
}

static void
refused(const char *xml, size_t len, const char *why)
{
	struct domain_desc d;
	struct err err = ERR_INIT;

	assert_int_equal(domain_desc_parse(&d, xml, len, &err), -1);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" is not in: %s", why, err.text);
	assert_null(d.name);
	assert_null(d.disks);
}

static void
refused_change(const char *xml, const struct domain_change *c, const char *why)
{
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(domain_rewrite(xml, strlen(xml), c, &out, &err), -1);
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" is not in: %s", why, err.text);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

static void
test_live(void **state)
{
	struct domain_desc d;

	(void)state;
	describe_sample(&d, "live");
	assert_string_equal(d.name, "web01");
	assert_string_equal(d.uuid, "6e0c4a0e-3a0b-4b7e-9f8f-0d4f2c8d7a11");
	assert_string_equal(d.emulator, "/usr/bin/qemu-system-x86_64");
	assert_string_equal(d.loader, "/usr/share/OVMF/OVMF_CODE_4M.ms.fd");
	assert_string_equal(d.nvram, "/var/lib/libvirt/qemu/nvram/web01_VARS.fd");
	assert_true(d.has_agent);
	assert_true(d.tpm_emulator);
	assert_string_equal(d.tpm_version, "2.0");
	assert_true(d.has_dac);
	assert_int_equal(d.dac_uid, 64055);
	assert_int_equal(d.dac_gid, 108);
	assert_int_equal(d.ndisks, 3);
	assert_string_equal(d.disks[0].target, "vda");
	assert_string_equal(d.disks[0].type, "file");
	assert_string_equal(d.disks[0].source, "/var/lib/libvirt/images/web01.overlay.qcow2");
	assert_string_equal(d.disks[0].format, "qcow2");
	assert_string_equal(d.disks[0].backing, "/var/lib/libvirt/images/web01.qcow2");
	assert_true(d.disks[0].has_mirror && d.disks[0].mirror_ready);
	assert_string_equal(d.disks[0].mirror_source, "/var/lib/libvirt/images/web01.qcow2");
	assert_string_equal(d.disks[1].type, "block");
	assert_string_equal(d.disks[1].source, "/dev/vg0/web01-data");
	assert_true(d.disks[1].shareable && !d.disks[1].readonly && !d.disks[1].has_mirror);
	assert_null(d.disks[1].backing);
	assert_string_equal(d.disks[2].device, "cdrom");
	assert_true(d.disks[2].readonly && domain_disk_left(&d.disks[2]));
	domain_desc_free(&d);
	domain_desc_free(&d);
}

static void
check_disk(const struct domain_desc *d, const char *target, const char *device, const char *type, const char *source, const char *format)
{
	const struct domain_disk *disk = domain_disk_find(d, target);

	assert_non_null(disk);
	assert_string_equal(disk->device, device);
	assert_string_equal(disk->type, type);
	assert_string_equal(disk->format, format);
	if (source == NULL)
		assert_null(disk->source);
	else
		assert_string_equal(disk->source, source);
}

static void
test_persistent(void **state)
{
	const struct domain_disk *disk;
	struct domain_desc d;

	(void)state;
	describe_sample(&d, "persistent");
	assert_string_equal(d.nvram, "/var/lib/libvirt/qemu/nvram/storage_VARS.fd");
	assert_null(d.loader);
	assert_false(d.has_agent || d.tpm_emulator || d.has_dac);
	assert_int_equal(d.ndisks, 11);
	check_disk(&d, "vda", "disk", "network", "iscsi://san.example.net:3260/iqn.2013-07.com.example:iscsi-nopool/1", "raw");
	disk = domain_disk_find(&d, "vda");
	assert_string_equal(disk->protocol, "iscsi");
	assert_string_equal(disk->name, "iqn.2013-07.com.example:iscsi-nopool/1");
	assert_string_equal(disk->host, "san.example.net");
	assert_string_equal(disk->port, "3260");
	check_disk(&d, "vdb", "disk", "network", "rbd://[fe80::1]:6789/pool/image", "raw");
	assert_true(domain_disk_find(&d, "vdb")->has_encryption);
	check_disk(&d, "vdc", "disk", "network", "nbd+unix:///export?socket=/run/nbd.sock", "raw");
	assert_true(domain_disk_find(&d, "vdc")->transient);
	check_disk(&d, "vdd", "disk", "volume", "default/data.qcow2", "qcow2");
	check_disk(&d, "sda", "lun", "block", "/dev/disk/by-id/wwn-0x5000", "raw");
	check_disk(&d, "sdb", "disk", "file", "/srv/ro & shared.img", "raw");
	check_disk(&d, "vde", "disk", "nvme", "nvme://0000:01:00.0/1", "raw");
	check_disk(&d, "vdf", "disk", "vhostuser", "/tmp/vhost-blk.sock", "raw");
	check_disk(&d, "hdc", "cdrom", "file", NULL, "raw");
	check_disk(&d, "fda", "floppy", "file", "/srv/floppy.img", "raw");
	check_disk(&d, "vdg", "disk", "dir", "/srv/fat", "fat");
	domain_desc_free(&d);

	describe_sample(&d, "declared");
	assert_string_equal(d.name, "d\xc3\xa9j\xc3\xa0");
	check_disk(&d, "hda", "disk", "file", "/a&b<", "raw");
	assert_string_equal(d.disks[0].mirror_source, "/m");
	assert_false(d.disks[0].mirror_ready);
	domain_desc_free(&d);
}

static void
test_refused(void **state)
{
	static const struct { const char *name, *why; } samples[] = {
		{ "entities", "document type" }, { "external", "document type" }, { "twice", "two disks vda" }, { "two-devices", "more than one <devices>" },
		{ "slash", "no name of a domain" }, { "namespace", "not a <domain>" }, { "cut", "no sound XML: line 1" },
	};
	static const struct { const char *xml, *why; } texts[] = {
		{ "<domain/>", "must have a name" }, { "<domain><name> </name></domain>", "must have a name" },
		{ "<domain><name>x</name><uuid>y</uuid></domain>", "no UUID" }, { "<volume><name>x</name></volume>", "not a <domain>" },
		{ "<domain><name>x</name><devices><disk/></devices></domain>", "no <target" },
		{ "<domain><name>x</name><devices><disk><target dev='../vda'/></disk></devices></domain>", "no name of a disk's target" },
		{ "<domain><name>&undefined;</name></domain>", "no sound XML" }, { "<domain><name>a&#10;b</name></domain>", "no name of a domain" },
		{ "<domain><name>\xff</name></domain>", "no sound XML" }, { "<domain><name>x</name></domain><domain/>", "no sound XML" },
	};
	char *xml;

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		xml = sample(samples[i].name);
		refused(xml, strlen(xml), samples[i].why);
		free(xml);
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		refused(texts[i].xml, strlen(texts[i].xml), texts[i].why);
	refused("", 0, "empty");
	refused("<domain><name>x</name>\0</domain>", 32, "no sound XML");
}

/* Bounds: bytes, elements, depth, length of a value, disks. */
static void
test_bounds(void **state)
{
	struct buf b = BUF_INIT;
	struct err err = ERR_INIT;
	char *big = calloc(1, XML_DOC_MAX + 1);

	(void)state;
	memset(big, ' ', XML_DOC_MAX + 1);
	refused(big, XML_DOC_MAX + 1, "larger than");
	memcpy(big, "<domain><name>", 14);
	memset(big + 14, 'x', 5000);
	memcpy(big + 5014, "</name></domain>", 16);
	refused(big, 5030, "a \"name\" of more than");
	free(big);

	buf_addf(&b, &err, "<domain><name>x</name>");
	for (unsigned int i = 0; i <= XML_NODES_MAX; i++)
		buf_addf(&b, &err, "%s", i % 3 == 0 ? "<a/>" : i % 3 == 1 ? "<!---->" : "<?a?>");
	buf_addf(&b, &err, "</domain>");
	refused(b.ptr, b.len, "more than 100000 elements");
	buf_reset(&b);
	for (unsigned int i = 0; i < 1000; i++)
		buf_addf(&b, &err, "<domain>");
	refused(b.ptr, b.len, "no sound XML: line 1: Excessive depth");
	buf_reset(&b);
	buf_addf(&b, &err, "<domain><name>x</name><devices>");
	for (unsigned int i = 0; i <= DOMAIN_DISKS_MAX; i++)
		buf_addf(&b, &err, "<disk><target dev='vd%u'/></disk>", i);
	buf_addf(&b, &err, "</devices></domain>");
	refused(b.ptr, b.len, "more than 1024 disks");
	buf_free(&b);
}

/* Rewritten and read again, every disk is exactly where it was placed, whatever it was. */
static void
test_every_place(void **state)
{
	static const char *const names[] = { "live", "persistent", "declared", "tight" };
	static const char *const formats[] = { "raw", "qcow2" };
	struct domain_disk_place places[16];
	char paths[16][64], *xml;
	struct domain_desc d, now;
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t s = 0; s < 8; s++) {
		struct domain_change c = { .places = places };

		xml = sample(names[s / 2]);
		describe(&d, xml);
		for (size_t i = 0; i < d.ndisks; i++) {
			snprintf(paths[i], sizeof(paths[i]), "/new/<%zu> & \"%s\" ü.img", i, d.disks[i].target);
			places[i] = (struct domain_disk_place){ d.disks[i].target, paths[i], formats[(s + i) % 2], (s + i) % 3 == 0 };
		}
		c.nplaces = d.ndisks;
		buf_reset(&out);
		rewrite(&out, xml, &c);
		describe(&now, out.ptr);
		assert_int_equal(now.ndisks, d.ndisks);
		assert_string_equal(now.name, d.name);
		for (size_t i = 0; i < d.ndisks; i++) {
			const struct domain_disk *disk = &now.disks[i];

			assert_string_equal(disk->target, d.disks[i].target);
			assert_string_equal(disk->type, places[i].block ? "block" : "file");
			assert_string_equal(disk->source, paths[i]);
			assert_string_equal(disk->format, places[i].format);
			assert_true(disk->backing == NULL && !disk->has_mirror && !disk->has_encryption && disk->protocol == NULL);
			assert_true(disk->readonly == d.disks[i].readonly && disk->shareable == d.disks[i].shareable);
		}
		assert_null(strstr(out.ptr, "<backingStore"));
		assert_null(strstr(out.ptr, "<auth"));
		assert_null(strstr(out.ptr, "<slices"));
		domain_desc_free(&now);
		domain_desc_free(&d);
		free(xml);
	}
	buf_free(&out);
}

/* The live domain, as it is defined anew: what was the run's own is gone, and nothing else. */
static void
test_rewrite_live(void **state)
{
	static const struct domain_disk_place places[] = { { "vda", "/restored/vda.img", "raw", false }, { "vdb", "/dev/vg1/b", "raw", true } };
	static const char *const gone[] = { " id=\"7\"", "<mirror", "web01.qcow2", "metadata_cache", "index=\"4\"", "index=\"1\"", "virtio-disk0", "vnet3",
		"portid", "/dev/pts", "domain-7-web01", "imagelabel", "+64055", "apparmor", "'" };
	static const char *const kept[] = { "<title>Web &amp; mail</title>", "ua-data", "libosinfo:os id=\"http://debian.org/debian/12\"", "web01-lan",
		"<serial>0001</serial>", "discard=\"unmap\"", "cache=\"none\" io=\"native\"", "<seclabel model=\"dac\" relabel=\"no\"/>", "<!-- kept -->",
		"<qemu:arg value=\"-newarg\"/>", "52:54:00:11:22:33", "43dc0cf8-809b-4adb-9bea-a9abb5f3d90e", "<source file=\"/srv/iso/debian-12.iso\"/>",
		"<controller type=\"usb\" index=\"0\" model=\"qemu-xhci\" ports=\"15\">", "org.qemu.guest_agent.0", "<tpm model=\"tpm-crb\">",
		"/var/lib/libvirt/qemu/nvram/web01_VARS.fd" };
	struct domain_change c = { .places = places, .nplaces = 2 };
	struct buf out = BUF_INIT, again = BUF_INIT;
	char *xml = sample("live");

	(void)state;
	rewrite(&out, xml, &c);
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		if (strstr(out.ptr, gone[i]) != NULL)
			fail_msg("still there: %s", gone[i]);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (strstr(out.ptr, kept[i]) == NULL)
			fail_msg("lost: %s", kept[i]);
	assert_non_null(strstr(out.ptr, "    <disk type=\"file\" device=\"disk\">\n      <driver name=\"qemu\" type=\"raw\" discard=\"unmap\">\n"
	    "      </driver>\n      <source file=\"/restored/vda.img\"/>\n      <target dev=\"vda\" bus=\"virtio\"/>\n"));
	/* It is at rest then. */
	rewrite(&again, out.ptr, &c);
	assert_string_equal(out.ptr, again.ptr);
	buf_free(&again);
	buf_free(&out);
	free(xml);
}

static void
test_rename(void **state)
{
	struct domain_change c = { .name = "web02 & co", .nvram = "/new/web02_VARS.fd" };
	struct domain_desc d, other;
	struct buf out = BUF_INIT, again = BUF_INIT;
	char *xml = sample("live"), entry[128];
	const char *mac;

	(void)state;
	rewrite(&out, xml, &c);
	rewrite(&again, xml, &c);
	describe(&d, out.ptr);
	describe(&other, again.ptr);
	assert_string_equal(d.name, "web02 & co");
	assert_string_not_equal(d.uuid, "6e0c4a0e-3a0b-4b7e-9f8f-0d4f2c8d7a11");
	assert_string_not_equal(d.uuid, other.uuid);
	assert_string_equal(d.nvram, "/new/web02_VARS.fd");
	assert_null(strstr(out.ptr, "genid"));
	assert_null(strstr(out.ptr, "52:54:00:11:22:33"));
	assert_null(strstr(out.ptr, "52:54:00:44:55:66"));
	assert_non_null(mac = strstr(out.ptr, "<mac address=\"52:54:00:"));
	assert_non_null(mac = strstr(mac + 1, "<mac address=\"52:54:00:"));
	snprintf(entry, sizeof(entry), "<entry name=\"uuid\">%s</entry>", d.uuid);
	assert_non_null(strstr(out.ptr, entry));
	domain_desc_free(&d);
	domain_desc_free(&other);
	free(xml);

	xml = sample("tight");
	c.uuid = "11111111-2222-4333-8444-555555555555";
	buf_reset(&out);
	rewrite(&out, xml, &c);
	assert_string_equal(out.ptr, "<domain><name>web02 &amp; co</name><uuid>11111111-2222-4333-8444-555555555555</uuid><os><type>hvm</type>"
	    "<nvram>/new/web02_VARS.fd</nvram></os><devices><disk><source file=\"/a\"/><target dev=\"vda\"/></disk><disk type=\"file\">"
	    "<target dev=\"vdb\"/></disk><interface type=\"user\"/></devices></domain>\n");
	free(xml);
	buf_free(&out);
	buf_free(&again);
}

/* Disks that were not backed up stay, or go; a lun in a file is a disk. */
static void
test_missing_disks(void **state)
{
	static const struct domain_disk_place place = { "sda", "/restored/sda.qcow2", "qcow2", false };
	struct domain_change c = { .places = &place, .nplaces = 1 };
	struct domain_desc d;
	struct buf out = BUF_INIT;
	char *xml = sample("persistent");

	(void)state;
	rewrite(&out, xml, &c);
	describe(&d, out.ptr);
	assert_int_equal(d.ndisks, 11);
	check_disk(&d, "sda", "disk", "file", "/restored/sda.qcow2", "qcow2");
	check_disk(&d, "vdb", "disk", "network", "rbd://[fe80::1]:6789/pool/image", "raw");
	assert_null(strstr(out.ptr, "rawio"));
	assert_non_null(strstr(out.ptr, "<seclabel type=\"dynamic\" model=\"dac\" relabel=\"no\"/>"));
	assert_non_null(strstr(out.ptr, "system_u:object_r"));
	assert_non_null(strstr(out.ptr, "/srv/own.sock"));
	domain_desc_free(&d);
	c.drop_missing = true;
	buf_reset(&out);
	rewrite(&out, xml, &c);
	describe(&d, out.ptr);
	assert_int_equal(d.ndisks, 5);
	assert_true(domain_disk_find(&d, "sda") && domain_disk_find(&d, "sdb") && domain_disk_find(&d, "hdc") && domain_disk_find(&d, "fda") &&
	    domain_disk_find(&d, "vdg"));
	domain_desc_free(&d);
	buf_free(&out);
	free(xml);
}

static void
test_refused_changes(void **state)
{
	static const struct domain_disk_place other = { "vdx", "/x", "raw", false }, relative = { "vda", "x", "raw", false },
	    control = { "vda", "/x\n", "raw", false }, twice[] = { { "vda", "/x", "raw", false }, { "vda", "/y", "raw", false } };
	char *xml = sample("tight");

	(void)state;
	refused_change(xml, &(struct domain_change){ .places = &other, .nplaces = 1 }, "no disk vdx");
	refused_change(xml, &(struct domain_change){ .places = &relative, .nplaces = 1 }, "absolute path");
	refused_change(xml, &(struct domain_change){ .places = &control, .nplaces = 1 }, "absolute path");
	refused_change(xml, &(struct domain_change){ .places = twice, .nplaces = 2 }, "placed twice");
	refused_change(xml, &(struct domain_change){ .name = "a/b" }, "no name of a domain");
	refused_change(xml, &(struct domain_change){ .name = "" }, "must have a name");
	refused_change(xml, &(struct domain_change){ .name = "a", .uuid = "b" }, "is no UUID");
	refused_change(xml, &(struct domain_change){ .nvram = "vars.fd" }, "absolute path");
	refused_change("<domain><name>x</name></domain>", &(struct domain_change){ .nvram = "/vars.fd" }, "no <os>");
	free(xml);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_persistent),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_every_place),
		cmocka_unit_test(test_rewrite_live),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_missing_disks),
		cmocka_unit_test(test_refused_changes),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
