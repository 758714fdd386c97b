#include "training/checkpoint/manifest.h"

#include "runtime/base/error.h"
#include "training/data/json_node.h"

namespace catena {
namespace {

using OrderedJson = nlohmann::ordered_json;
using data::JsonNode;

constexpr const char* kFormat = "catena-checkpoint";
constexpr std::int64_t kVersion = 1;

/// Everything but the manifest's own hash, in one spelling.
std::string body_text(const Manifest& manifest) {
  OrderedJson files = OrderedJson::array();
  for (const Manifest::File& file : manifest.files) {
    files.push_back({{"name", file.name},
                     {"bytes", file.content.bytes},
                     {"xxh3", hexadecimal(file.content.hash)}});
  }
  return OrderedJson{{"format", kFormat},
                     {"version", kVersion},
                     {"step", manifest.step},
                     {"files", files}}
      .dump();
}

std::uint64_t hash_value(const JsonNode& node) {
  const std::string& text = node.text();
  if (text.size() != 16 ||
      text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    node.refuse("is no hash: 16 digits of 0-9 and a-f were expected");
  }
  return std::stoull(text, nullptr, 16);
}

void check_format(const JsonNode& root) {
  root.require_object();
  if (root.member("format").text() != kFormat) {
    root.member("format").refuse(
        fmt::format("is not \"{}\": no checkpoint of Catena", kFormat));
  }
  const std::int64_t version = root.member("version").integer();
  if (version != kVersion) {
    root.member("version").refuse(fmt::format(
        "is {}; this program reads version {}: use the program that wrote it",
        version, kVersion));
  }
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  OrderedJson json = OrderedJson::parse(body_text(manifest));
  json["xxh3"] = hexadecimal(hash64(body_text(manifest)));
  return json.dump(1) + "\n";
}

Manifest parse_manifest(std::string_view text, const std::string& name) {
  const nlohmann::json json = data::parse_json(text, name);
  const JsonNode root(json, name, "");
  check_format(root);
  Manifest manifest;
  manifest.step = root.member("step").count();
  const JsonNode files = root.member("files");
  for (std::size_t i = 0; i < files.size(); ++i) {
    const JsonNode entry = files.element(i);
    const std::string& file = entry.member("name").text();
    if (file.empty() || file.front() == '.' || file == kManifestFile ||
        file.find('/') != std::string::npos) {
      entry.member("name").refuse("is no file of the checkpoint's folder");
    }
    manifest.files.push_back(
        {file,
         {entry.member("bytes").count(), hash_value(entry.member("xxh3"))}});
  }
  if (hash_value(root.member("xxh3")) != hash64(body_text(manifest))) {
    root.member("xxh3").refuse(
        "is not the hash of what it says: the manifest was altered");
  }
  return manifest;
}

Manifest verify_checkpoint(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestFile;
  if (!std::filesystem::exists(path)) {
    fail(ErrorKind::kData, "{}: is no checkpoint: {} is missing",
         folder.string(), kManifestFile);
  }
  const Manifest manifest = parse_manifest(read_file(path), path.string());
  for (const Manifest::File& file : manifest.files) {
    const std::filesystem::path part = folder / file.name;
    if (!std::filesystem::exists(part)) {
      fail(ErrorKind::kData, "{}: is missing", part.string());
    }
    const MappedFile mapped(part);
    const auto bytes = static_cast<std::int64_t>(mapped.bytes().size());
    if (bytes != file.content.bytes) {
      fail(ErrorKind::kData, "{}: has {} bytes, its manifest says {}",
           part.string(), bytes, file.content.bytes);
    }
    if (hash64(mapped.bytes()) != file.content.hash) {
      fail(ErrorKind::kData, "{}: was altered: its hash is not the manifest's",
           part.string());
    }
  }
  return manifest;
}

}  // namespace catena
