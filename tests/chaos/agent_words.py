"""What an agent says to its launcher before and after both have proved who they
are: launcher/control and proto/catena.proto, by hand."""
import hmac
import socket
import struct

VERSION = 2  # kProtocolVersion
MAC_BYTES = 32
REPORT = b"\x22\x04\x12\x02\x0a\x00"  # Envelope.report.agent_ready


def mac(key, data):
    return hmac.digest(key, data, "sha256")


def number(value):
    return struct.pack("<I", value)


def sized(content):
    """After its length: a frame, or one of the terms that are signed."""
    return number(len(content)) + content


def field(place, value):
    """Of protobuf: a number below 128, or bytes that are as few."""
    if isinstance(value, int):
        return bytes([place << 3, value])
    return bytes([place << 3 | 2, len(value)]) + value


def sealed(key, sequence, message):
    """A frame of a connection on which both have proved who they are."""
    head = number(8 + len(message) + MAC_BYTES) + struct.pack("<Q", sequence)
    return head + message + mac(key, head + message)


class Agent:
    """One that says it is agent `place` of the job, and has this secret."""

    def __init__(self, job, place, secret, nonce, incarnation=1):
        self.job, self.place, self.incarnation = job, place, incarnation
        self.secret, self.nonce = secret, nonce

    def hello(self):
        return sized(field(1, field(1, VERSION) + field(2, self.job)
                           + field(3, self.place)
                           + field(4, self.incarnation)
                           + field(5, self.nonce)))

    def signed(self, label, challenge):
        terms = (sized(label) + number(VERSION) + sized(self.job)
                 + number(self.place) + number(self.incarnation)
                 + sized(self.nonce) + sized(challenge))
        return mac(self.secret, terms)

    def proof(self, challenge):
        made = self.signed(b"catena control: agent proves", challenge)
        return sized(field(3, field(1, made)))

    def report(self, challenge):
        """The first after the proofs."""
        key = self.signed(b"catena control: agent to launcher", challenge)
        return sealed(key, 0, REPORT)


def hear(connection):
    """The nonce of the launcher's challenge; None where it gives none."""
    said = b""
    while len(said) < 4 or len(said) < 4 + struct.unpack_from("<I", said)[0]:
        part = connection.recv(4096)
        if not part:
            return None
        said += part
    return said[-32:]  # its last field


def greet(port, agent, prove):
    """One connection of an agent. With `prove` it goes on to the proof, and
    waits for what comes of it. Returns the launcher's nonce."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(agent.hello())
            challenge = hear(connection)
            if prove and challenge:
                connection.sendall(agent.proof(challenge))
                while connection.recv(4096):
                    pass
            return challenge
    except OSError:
        return None  # turned away


def recording(port, agent):
    """All that the agent would say after one challenge of the launcher."""
    challenge = greet(port, agent, prove=False) or bytes(32)
    return agent.hello() + agent.proof(challenge) + agent.report(challenge)
