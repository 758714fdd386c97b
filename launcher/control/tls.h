#pragma once

#include <boost/asio/ssl/context.hpp>
#include <boost/system/error_code.hpp>

#include "launcher/control/secret.h"

namespace catena::launcher::control {

/// One end's part in TLS 1.3 between an agent and its launcher: no other
/// version, no resumption, no early data. Both ends make the same Ed25519 key
///
///   seed = HMAC-SHA256(secret, "catena control: TLS key")
///
/// and a certificate that it signs itself, and each takes the other for whom it
/// waits if and only if that one has this key. So who does not know the job's
/// secret gets no further than the TLS handshake, on either side, and nobody
/// can stand between; names, dates and authorities play no part. What encrypts
/// is new for every connection, and does not follow from the secret.
/// A context may be gone before the streams that were made of it.
/// Throws: Error(kUnsupported) where OpenSSL cannot do this.
/// Source: RFC 8446, 4.4.2 and 4.4.3 (certificates of both ends, and the proof
/// that their keys are known), 1.2 (forward secrecy); RFC 8410 (Ed25519 in
/// certificates).
[[nodiscard]] boost::asio::ssl::context tls_context(const Secret& secret);

/// Why a connection ended, of which this is the error: "certificate", the other
/// end has another key than we; "tls", it does not speak TLS 1.3 as we do, or
/// does not take us for whom it waits; "closed", anything else.
[[nodiscard]] const char* end_reason(const boost::system::error_code& error);

}  // namespace catena::launcher::control
