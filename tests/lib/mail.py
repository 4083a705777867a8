"""Mails as the tests see them: from a Maildir or from the SMTP sink."""

import email
import email.policy
import pathlib
import re


class Mail:
    def __init__(self, raw: bytes):
        self.raw = raw
        self.message = email.message_from_bytes(raw, policy=email.policy.default)

    def __repr__(self):
        return f"<mail to {self.to}: {self.subject}>"

    @property
    def to(self):
        """The address alone, in lower case."""
        header = self.message["To"]
        return header.addresses[0].addr_spec.lower() if header and header.addresses else None

    @property
    def subject(self):
        return self.message["Subject"]

    @property
    def message_id(self):
        return self.message["Message-ID"]

    @property
    def text(self):
        """The plain text, decoded."""
        part = self.message.get_body(("plain", "html"))
        return part.get_content() if part else ""

    @property
    def token(self):
        """The verification token in the mail's link, or None."""
        found = re.search(r"https?://\S*/v1/verify\?token=([A-Za-z0-9_-]+)", self.text)
        return found.group(1) if found else None

    @property
    def html(self):
        """The HTML, decoded, or None."""
        part = self.message.get_body(("html",))
        return part.get_content() if part else None

    @property
    def unsubscribe_url(self):
        """The link for one click (RFC 8058), or None."""
        found = re.fullmatch(r"<(\S+)>", self.message["List-Unsubscribe"] or "")
        return found.group(1) if found and self.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click" else None


def read_maildir(directory):
    """All mails that are delivered (new/ and cur/), oldest name first."""
    root = pathlib.Path(directory)
    files = sorted([*root.glob("new/*"), *root.glob("cur/*")], key=lambda f: f.name)
    return [Mail(f.read_bytes()) for f in files]
