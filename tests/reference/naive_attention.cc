#include <algorithm>
#include <numbers>

#include "tests/reference/naive_model.h"

namespace catena::naive {
namespace {

double yarn_mscale(double factor, double mscale) {
  return factor > 1 ? 0.1 * mscale * std::log(factor) + 1 : 1;
}

std::size_t sized(std::int64_t value) {
  return static_cast<std::size_t>(value);
}

}  // namespace

/// Queries of every head, and keys and values of every key head, of a token.
struct Model::Heads {
  Rows q, k, v;
};

Rows Model::attention(const std::string& name, const Rows& x,
                      const Tokens& tokens) const {
  std::vector<Heads> heads;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double position = tokens.positions[i];
    heads.push_back(config_.attention.kind == "mla"
                        ? latent_heads(name, x[i], position)
                        : grouped_heads(name, x[i], position));
  }
  Rows out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto first = static_cast<std::size_t>(tokens.first[i]);
    Values all;
    for (std::size_t h = 0; h < heads[i].q.size(); ++h) {
      const Values& q = heads[i].q[h];
      const std::size_t shared = heads[i].q.size() / heads[i].k.size();
      double scale = 1 / std::sqrt(static_cast<double>(q.size()));
      const RopeConfig& rope = config_.rope;
      if (rope.scaling == "yarn" && rope.mscale_all_dim != 0) {
        scale *= std::pow(yarn_mscale(rope.factor, rope.mscale_all_dim), 2);
      }
      Values scores;
      for (std::size_t j = first; j <= i; ++j) {
        scores.push_back(scale * dot(q, heads[j].k[h / shared]));
      }
      const Values p = softmax(scores);
      Values mixed(heads[i].v[0].size(), 0.0);
      for (std::size_t j = first; j <= i; ++j) {
        add(mixed, heads[j].v[h / shared], p[j - first]);
      }
      all = joined(all, mixed);
    }
    out.push_back(multiply(weight(name + ".o_proj.weight"), all));
  }
  return out;
}

Model::Heads Model::latent_heads(const std::string& name, const Values& x,
                                 double position) const {
  const AttentionConfig& a = config_.attention;
  const std::size_t nope = sized(a.qk_nope_size), rope = sized(a.qk_rope_size);
  const std::size_t v_size = sized(a.v_size), rank = sized(a.kv_lora_rank);
  constexpr double kEpsilon = 1e-6;

  Values q;
  if (a.q_lora_rank > 0) {
    q = multiply(weight(name + ".q_b_proj.weight"),
                 rms_norm(multiply(weight(name + ".q_a_proj.weight"), x),
                          weight(name + ".q_a_layernorm.weight"), kEpsilon));
  } else {
    q = multiply(weight(name + ".q_proj.weight"), x);
  }
  const Values latent =
      multiply(weight(name + ".kv_a_proj_with_mqa.weight"), x);
  const Values kv =
      multiply(weight(name + ".kv_b_proj.weight"),
               rms_norm(part(latent, 0, rank),
                        weight(name + ".kv_a_layernorm.weight"), kEpsilon));
  const Values k_rope = rotated(part(latent, rank, rope), position);

  Heads heads;
  for (std::size_t h = 0; h < sized(a.heads); ++h) {
    const Values q_head = part(q, h * (nope + rope), nope + rope);
    heads.q.push_back(joined(part(q_head, 0, nope),
                             rotated(part(q_head, nope, rope), position)));
    const Values kv_head = part(kv, h * (nope + v_size), nope + v_size);
    heads.k.push_back(joined(part(kv_head, 0, nope), k_rope));
    heads.v.push_back(part(kv_head, nope, v_size));
  }
  return heads;
}

Model::Heads Model::grouped_heads(const std::string& name, const Values& x,
                                  double position) const {
  const AttentionConfig& a = config_.attention;
  const std::size_t size = sized(a.head_size);
  const auto project = [&](const std::string& which, bool key_or_query) {
    Values y = multiply(weight(name + "." + which + "_proj.weight"), x);
    if (key_or_query && a.qk_norm == "full") {
      y = rms_norm(y, weight(name + "." + which + "_norm.weight"),
                   config_.norm_epsilon);
    }
    Rows heads;
    for (std::size_t h = 0; h < y.size() / size; ++h) {
      Values head = part(y, h * size, size);
      if (key_or_query && a.qk_norm == "head") {
        head = rms_norm(head, weight(name + "." + which + "_norm.weight"),
                        config_.norm_epsilon);
      }
      heads.push_back(key_or_query ? rotated(head, position) : head);
    }
    return heads;
  };
  return {project("q", true), project("k", true), project("v", false)};
}

/// Interleaved pairs are first turned into halves, as published; all heads of
/// queries and keys agree on that, so scores do not notice.
Values Model::rotated(const Values& x, double position) const {
  const RopeConfig& rope = config_.rope;
  const std::size_t half = x.size() / 2;
  const bool interleaved =
      rope.layout == "interleaved" ||
      (rope.layout == "auto" && config_.attention.kind == "mla");
  Values halves(x.size());
  for (std::size_t i = 0; i < half; ++i) {
    halves[i] = x[interleaved ? 2 * i : i];
    halves[i + half] = x[interleaved ? 2 * i + 1 : i + half];
  }
  double magnitude = 1;
  if (rope.scaling == "yarn") {
    magnitude = yarn_mscale(rope.factor, rope.mscale) /
                yarn_mscale(rope.factor, rope.mscale_all_dim);
  }
  const Values frequency = frequencies(x.size());
  Values y(x.size());
  for (std::size_t i = 0; i < half; ++i) {
    const double c = magnitude * std::cos(position * frequency[i]);
    const double s = magnitude * std::sin(position * frequency[i]);
    y[i] = halves[i] * c - halves[i + half] * s;
    y[i + half] = halves[i + half] * c + halves[i] * s;
  }
  return y;
}

Values Model::frequencies(std::size_t size) const {
  const RopeConfig& rope = config_.rope;
  const double dimension = static_cast<double>(size);
  // The channel pair that makes `turns` turns in the original length.
  const auto pair_with_turns = [&](double turns) {
    const double length = static_cast<double>(rope.original_positions);
    return dimension * std::log(length / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = std::fmax(std::floor(pair_with_turns(rope.beta_fast)), 0);
  double high =
      std::fmin(std::ceil(pair_with_turns(rope.beta_slow)), dimension - 1);
  if (low == high) high += 0.001;

  Values result;
  for (std::size_t i = 0; i < size / 2; ++i) {
    const double pair = static_cast<double>(i);
    const double plain = std::pow(rope.theta, -2 * pair / dimension);
    const double stretched = plain / rope.factor;
    if (rope.scaling == "none") {
      result.push_back(plain);
    } else if (rope.scaling == "linear") {
      result.push_back(stretched);
    } else {
      const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
      result.push_back(stretched * ramp + plain * (1 - ramp));
    }
  }
  return result;
}

}  // namespace catena::naive
