#include "launcher/control/tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <boost/asio/ssl/error.hpp>
#include <boost/system/system_error.hpp>
#include <memory>
#include <string_view>

#include "runtime/base/error.h"

namespace catena::launcher::control {
namespace {

namespace ssl = boost::asio::ssl;

constexpr std::string_view kKeyLabel = "catena control: TLS key";
/// Of what a stranger presents; ours has some 300.
constexpr long kMostCertificateBytes = 4096;

struct Free {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { X509_free(certificate); }
};
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Certificate = std::unique_ptr<X509, Free>;

[[noreturn]] void cannot(const char* why) {
  fail(ErrorKind::kUnsupported,
       "OpenSSL of this machine makes no TLS 1.3 by Ed25519 ({}): install "
       "another, or do without by --tls off",
       why == nullptr ? "no reason given" : why);
}

void need(bool done) {
  if (!done) cannot(ERR_reason_error_string(ERR_get_error()));
}

Key key_of(const Secret& secret) {
  const Mac seed = secret.mac(kKeyLabel);
  Key key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.data(),
                                       seed.size()));
  need(key != nullptr);
  return key;
}

/// Valid for ever: clocks of many machines need not agree, and the key is of
/// one job.
Certificate certificate_of(EVP_PKEY* key) {
  Certificate made(X509_new());
  X509* const certificate = made.get();
  need(certificate != nullptr);
  X509_NAME* const name = X509_get_subject_name(certificate);
  const auto* text = reinterpret_cast<const unsigned char*>("catena");
  need(X509_set_version(certificate, X509_VERSION_3) == 1 &&
       ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0) ==
           1 &&
       X509_set_issuer_name(certificate, name) == 1 &&
       ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate),
                                 "19700101000000Z") == 1 &&
       ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate),
                                 "99991231235959Z") == 1 &&
       X509_set_pubkey(certificate, key) == 1 &&
       X509_sign(certificate, key, nullptr) > 0);
  return made;
}

/// In place of all that is usual of certificates. That the other end knows the
/// private key, and has not merely seen the certificate, TLS itself checks.
int has_our_key(X509_STORE_CTX* store, void*) {
  const auto* connection = static_cast<SSL*>(
      X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  const X509* theirs = X509_STORE_CTX_get0_cert(store);
  EVP_PKEY* key = theirs == nullptr ? nullptr : X509_get0_pubkey(theirs);
  if (key != nullptr && EVP_PKEY_eq(SSL_get_privatekey(connection), key) == 1) {
    return 1;
  }
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
  return 0;
}

}  // namespace

ssl::context tls_context(const Secret& secret) {
  try {
    ssl::context context(ssl::context::tlsv13);
    SSL_CTX* const native = context.native_handle();
    const Key key = key_of(secret);
    need(SSL_CTX_use_certificate(native, certificate_of(key.get()).get()) ==
             1 &&
         SSL_CTX_use_PrivateKey(native, key.get()) == 1 &&
         SSL_CTX_set1_sigalgs_list(native, "ed25519") == 1 &&
         SSL_CTX_set_num_tickets(native, 0) == 1);
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(native, kMostCertificateBytes);
    context.set_verify_mode(ssl::verify_peer |
                            ssl::verify_fail_if_no_peer_cert);
    SSL_CTX_set_cert_verify_callback(native, has_our_key, nullptr);
    return context;
  } catch (const boost::system::system_error& error) {
    cannot(error.what());
  }
}

const char* end_reason(const boost::system::error_code& error) {
  if (error.category() != boost::asio::error::get_ssl_category()) {
    return "closed";
  }
  const auto code = static_cast<unsigned long>(error.value());
  return ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED ? "certificate"
                                                                 : "tls";
}

}  // namespace catena::launcher::control
