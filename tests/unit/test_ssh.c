/* What SSH's files say: known_hosts, private keys.  Both are somebody else's. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ssh/ssh_key.h"
#include "ssh/ssh_known_hosts.h"

/* "ssh-ed25519" and a key of 32 bytes 'A' or 'B'; "ssh-rsa" and nothing. */
#define ED_A	"AAAAC3NzaC1lZDI1NTE5AAAAIEFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
#define ED_B	"AAAAC3NzaC1lZDI1NTE5AAAAIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC"
#define RSA	"AAAAB3NzaC1yc2E="

static const uint8_t key_a[] = "\0\0\0\013ssh-ed25519\0\0\0\040AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
static char folder[] = "/tmp/ovb-test.XXXXXX";

static void
write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	if (f == NULL || fputs(text, f) == EOF || fclose(f) == EOF)
		abort();
}

static void
verdicts(void **state)
{
	/* The line that decides comes last; host.example is looked for. */
	static const struct {
		const char *text;
		enum known_verdict v;
		unsigned int line;
	} cases[] = {
		{ "", KNOWN_NO_HOST, 0 },
		{ "# c\n\nhost.example ssh-ed25519 " ED_A " comment\n", KNOWN_MATCH, 3 },
		{ "HOST.example ssh-ed25519 " ED_A, KNOWN_MATCH, 1 },
		{ "other,host.example,x ssh-ed25519 " ED_A "\n", KNOWN_MATCH, 1 },
		{ "*.example ssh-ed25519 " ED_A "\n", KNOWN_MATCH, 1 },
		{ "h?st.ex* ssh-ed25519 " ED_A "\n", KNOWN_MATCH, 1 },
		{ "*.example,!host.* ssh-ed25519 " ED_A "\n", KNOWN_NO_HOST, 0 },
		{ "host.example.org ssh-ed25519 " ED_A "\n", KNOWN_NO_HOST, 0 },
		{ "[host.example]:22 ssh-ed25519 " ED_A "\n", KNOWN_NO_HOST, 0 },
		{ "host.example ssh-ed25519 " ED_B "\n", KNOWN_CHANGED, 1 },
		{ "host.example ssh-ed25519 " ED_B "\nhost.example ssh-ed25519 " ED_A "\n", KNOWN_MATCH, 2 },
		{ "host.example ssh-ed25519 " ED_A "\nhost.example ssh-ed25519 " ED_B "\n", KNOWN_MATCH, 1 },
		{ "host.example ssh-rsa " RSA "\n", KNOWN_NO_TYPE, 1 },
		{ "host.example ssh-ed25519 " ED_B "\nhost.example ssh-rsa " RSA "\n", KNOWN_CHANGED, 1 },
		{ "@revoked * ssh-ed25519 " ED_A "\nhost.example ssh-ed25519 " ED_A "\n", KNOWN_REVOKED, 1 },
		{ "host.example ssh-ed25519 " ED_A "\n@revoked * ssh-ed25519 " ED_A "\n", KNOWN_REVOKED, 2 },
		{ "@revoked * ssh-ed25519 " ED_B "\n", KNOWN_NO_HOST, 0 },
		{ "@cert-authority * ssh-ed25519 " ED_A "\n", KNOWN_NO_HOST, 0 },
		{ "host.example\nhost.example ssh-ed25519\nhost.example ssh-ed25519 A*==\n|1|x ssh-ed25519 " ED_A "\n", KNOWN_NO_HOST, 0 },
		{ "|1|c2FsdHNhbHRzYWx0c2FsdHNhbHQ=|wBGy22RL1hShVtfIeXqBPUb9KYk= ssh-ed25519 " ED_A "\n", KNOWN_MATCH, 1 },
		{ "|1|VGFsdHNhbHRzYWx0c2FsdHNhbHQ=|wBGy22RL1hShVtfIeXqBPUb9KYk= ssh-ed25519 " ED_A "\n", KNOWN_NO_HOST, 0 },
	};
	struct known_found k;
	struct err err;
	char missing[] = "missing", known[] = "known", *files[] = { missing, known };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_text("known", cases[i].text);
		assert_int_equal(known_hosts_look(files, 2, "host.example", key_a, sizeof(key_a) - 1, &k, &err), 0);
		if (k.verdict != cases[i].v || k.line != cases[i].line)
			fail_msg("case %zu: verdict %d, line %u", i, (int)k.verdict, k.line);
	}
}

static void
a_key_is_added(void **state)
{
	char added[] = "added", *files[] = { added }, text[64];
	struct known_found k;
	struct err err;

	(void)state;
	assert_int_equal(known_hosts_add("added", "[h]:2222", key_a, sizeof(key_a) - 1, &err), 0);
	assert_int_equal(known_hosts_look(files, 1, "[h]:2222", key_a, sizeof(key_a) - 1, &k, &err), 0);
	assert_int_equal(k.verdict, KNOWN_MATCH);
	assert_int_equal(known_hosts_look(files, 1, "[h]:2222", NULL, 0, &k, &err), 0);
	assert_int_equal(k.ntypes, 1);
	assert_string_equal(k.types[0], "ssh-ed25519");
	assert_string_equal(known_hosts_fingerprint(key_a, sizeof(key_a) - 1, text), "SHA256:ycecTFElO4tMaWgqfHQDEUjUete0Tsl0wmvU/kkDXFc");
	assert_int_equal(known_hosts_add("no/folder", "h", key_a, sizeof(key_a) - 1, &err), -1);
}

static void
keys_are_looked_at(void **state)
{
	static const struct {
		const char *text, *type;
		int rc;
		bool encrypted;
	} cases[] = {
		{ "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "ssh-rsa", 0, true },
		{ "-----BEGIN EC PRIVATE KEY-----\n", "", 0, false },
		{ "-----BEGIN PUBLIC KEY-----\n", "", -1, false },
		{ "", "", -1, false },
		/* The magic alone; a count of two keys; a key longer than the file. */
		{ "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n", "", -1, false },
		{ "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAACAAAAAA==\n-----END OPENSSH PRIVATE KEY-----\n", "", -1, false },
		{ "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB/////w==\n-----END OPENSSH PRIVATE KEY-----\n", "", -1, false },
		{ "-----BEGIN OPENSSH PRIVATE KEY-----\nno base64!\n-----END OPENSSH PRIVATE KEY-----\n", "", -1, false },
		{ "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", "", -1, false },
	};
	struct ssh_key *k = malloc(sizeof(*k));
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_text("key", cases[i].text);
		assert_int_equal(chmod("key", 0600), 0);
		if (ssh_key_look("key", k, &err) != cases[i].rc || strcmp(k->type, cases[i].type) != 0 || k->encrypted != cases[i].encrypted)
			fail_msg("case %zu: %s, %d", i, k->type, (int)k->encrypted);
	}
	assert_int_equal(ssh_key_look("missing", k, &err), -1);
	assert_int_equal(err.code, ENOENT);
	assert_int_equal(ssh_key_look(".", k, &err), -1);
	free(k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verdicts),
		cmocka_unit_test(a_key_is_added),
		cmocka_unit_test(keys_are_looked_at),
	};
	int r;

	if (mkdtemp(folder) == NULL || chdir(folder) == -1)
		return (1);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink("known");
	unlink("added");
	unlink("key");
	return (chdir("/") == -1 || rmdir(folder) == -1 ? 1 : r);
}
