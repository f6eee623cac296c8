"""FTP and SFTP servers over a folder, for tests of downloads. Prints one line of JSON when it listens; ends when its standard input does.

    servers.py ftp|ftps|ftps-implicit|sftp FOLDER [cut=BYTES] [rest=no] [mlsd=no]

User `trireme`, password `oars`; FTP lets `anonymous` in too. `cut`: each data connection of FTP ends after so many bytes.
The line has `port`; for TLS `ca` (certificate, PEM); for SFTP `host_key` (as in known hosts) and `private_key` (of user `trireme`).
"""

import datetime
import ipaddress
import json
import os
import sys
import tempfile
import threading


def end_with_stdin():
    sys.stdin.buffer.read()
    os._exit(0)


def certificate():
    """A key and its own certificate for 127.0.0.1, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "trireme test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), made.public_bytes(encoding).decode()


def ftp(kind, folder, options):
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
    from pyftpdlib.servers import FTPServer

    cut = int(options.get("cut", 0))
    base, data = (FTPHandler, DTPHandler) if kind == "ftp" else (TLS_FTPHandler, TLS_DTPHandler)

    class Cutting(data):
        sent = 0

        def send(self, chunk):
            self.sent += len(chunk)
            if cut and self.sent > cut:
                raise OSError("cut")
            return super().send(chunk)

    class Handler(base):
        use_sendfile = False
        authorizer = DummyAuthorizer()
        dtp_handler = Cutting
        proto_cmds = {
            name: what
            for name, what in base.proto_cmds.items()
            if not (name == "REST" and options.get("rest") == "no") and not (name[:3] == "MLS" and options.get("mlsd") == "no")
        }

    said = {}
    Handler.authorizer.add_anonymous(folder)
    Handler.authorizer.add_user("trireme", "oars", folder)
    if kind != "ftp":
        private, public = certificate()
        keys = tempfile.NamedTemporaryFile("w", suffix=".pem")
        keys.write(private + public)
        keys.flush()
        Handler.certfile = keys.name
        Handler.tls_control_required = Handler.tls_data_required = True
        said["ca"] = public
    if kind == "ftps-implicit":

        class Implicit(Handler):
            def handle(self):
                self.secure_connection(self.ssl_context)

            def handle_ssl_established(self):
                FTPHandler.handle(self)

            def ftp_AUTH(self, line):
                self.respond("550 not supposed to be used with SSL.")

        Handler = Implicit
    server = FTPServer(("127.0.0.1", int(options.get("port", 0))), Handler)
    print(json.dumps({"port": server.socket.getsockname()[1], **said}), flush=True)
    server.serve_forever(handle_exit=False)


def sftp(folder):
    import asyncio

    import asyncssh

    host_key, user_key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username):
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return (username, password) == ("trireme", "oars")

        def public_key_auth_supported(self):
            return True

        def validate_public_key(self, username, key):
            return username == "trireme" and key.export_public_key() == user_key.export_public_key()

    async def serve():
        files = lambda channel: asyncssh.SFTPServer(channel, chroot=folder.encode())
        server = await asyncssh.create_server(
            Server, "127.0.0.1", 0, server_host_keys=[host_key], sftp_factory=files, process_factory=None, allow_scp=False
        )
        said = {
            "port": server.sockets[0].getsockname()[1],
            "host_key": host_key.export_public_key("openssh").decode().strip(),
            "private_key": user_key.export_private_key("openssh").decode(),
        }
        print(json.dumps(said), flush=True)
        await server.wait_closed()

    asyncio.run(serve())


if __name__ == "__main__":
    threading.Thread(target=end_with_stdin, daemon=True).start()
    kind, folder, *rest = sys.argv[1:]
    options = dict(option.split("=", 1) for option in rest)
    if kind == "sftp":
        sftp(folder)
    else:
        ftp(kind, folder, options)
