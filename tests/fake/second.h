/* What backupd/deadline.c takes for a second, in tests. */
int fake_second_ms(void);
#define DEADLINE_SECOND_MS	fake_second_ms()
