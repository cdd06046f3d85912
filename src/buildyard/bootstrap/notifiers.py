"""Makes what sends messages; the part for mail is imported only where mail is set up, for its memory."""

from functools import partial

from buildyard.adapters.notifiers.statuses import StatusNotifier
from buildyard.adapters.notifiers.webhooks import WebhookNotifier
from buildyard.apis.sourcehut import telling
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.domain.notifications import Action
from buildyard.engine.engine import Writer
from buildyard.ports import Notifier
from buildyard.settings import Settings


def writers_of(config: GraphqlConfig) -> dict[str, Writer]:
    """Who words messages for targets that ask for the words of an API."""
    return {
        telling.DIALECT: partial(telling.answer_subscription, config=config),
        telling.TRIGGERS: telling.write_trigger,
    }


def notifiers_of(settings: Settings) -> dict[Action, Notifier]:
    """One for each kind of message that these settings allow."""
    allow_local, timeout_s = settings.sources.allow_local, settings.telling.timeout_seconds
    made: dict[Action, Notifier] = {
        Action.WEBHOOK: WebhookNotifier(allow_local=allow_local, timeout_s=timeout_s),
        Action.STATUS: StatusNotifier(allow_local=allow_local, timeout_s=timeout_s),
    }
    if settings.mail.host:
        from buildyard.adapters.notifiers.mail import MailNotifier, MailServer

        mail = settings.mail
        made[Action.EMAIL] = MailNotifier(
            MailServer(
                host=mail.host,
                port=mail.port,
                security=mail.security,
                user=mail.user,
                password=mail.password.reveal(),
                sender=mail.sender,
                ca_file=mail.ca_file,
            ),
            timeout_s=timeout_s,
        )
    return made
