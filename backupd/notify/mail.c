/* A message as RFC 5322 has it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "channels.h"
#include "notice.h"

#define LINE_MAX_BYTES	900u	/* RFC 5321: less than 1000 */

/* Lines that are too long are cut, between characters. */
static int
add_body(struct buf *out, const char *text, struct err *err)
{
	for (size_t n; *text != '\0'; text += n) {
		n = strcspn(text, "\n");
		if (n > LINE_MAX_BYTES) {
			n = LINE_MAX_BYTES;
			while (n > 1 && ((unsigned char)text[n] & 0xc0) == 0x80)
				n--;
		} else if (text[n] == '\n')
			n++;
		if (buf_add(out, text, n, err) == -1 || (text[n - 1] != '\n' && buf_add(out, "\n", 1, err) == -1))
			return (-1);
	}
	return (0);
}

int
mail_message(const struct conf_mail *m, const char *from, const json_t *notice, struct buf *out, struct err *err)
{
	/* The same in every locale. */
	static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	const char *subject = notice_text(notice, "subject");
	time_t now = time(NULL);
	uint64_t id = 0;
	struct tm tm;

	if (gmtime_r(&now, &tm) == NULL || io_random(&id, sizeof(id), err) == -1)
		return (-1);
	if (buf_addf(out, err, "From: Openvirt Backup <%s>\nTo: ", from) == -1)
		return (-1);
	for (size_t i = 0; i < m->to.n; i++)
		if (buf_addf(out, err, "%s%s", i > 0 ? ",\n " : "", m->to.v[i]) == -1)
			return (-1);
	if (buf_addf(out, err, "\nSubject: %.*s\nDate: %s, %02d %s %d %02d:%02d:%02d +0000\nMessage-ID: <%016" PRIx64 ".%lld@%s>\nAuto-Submitted: auto-generated\n"
	    "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n", (int)strcspn(subject, "\r\n"), subject,
	    days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, id, (long long)now,
	    notice_text(notice, "host")) == -1)
		return (-1);
	return (add_body(out, notice_text(notice, "text"), err));
}

int
mail_send(const struct conf_mail *m, const json_t *notice, struct err *err)
{
	struct buf message = BUF_INIT;
	char from[320];
	int rc;

	snprintf(from, sizeof(from), "openvirt-backup@%.256s", notice_text(notice, "host"));
	if (m->from != NULL)
		snprintf(from, sizeof(from), "%s", m->from);
	if ((rc = mail_message(m, from, notice, &message, err)) == 0)
		rc = m->server != NULL ? smtp_send(m, from, message.ptr, err) : sendmail_send(m, message.ptr, err);
	buf_free(&message);
	return (rc);
}
