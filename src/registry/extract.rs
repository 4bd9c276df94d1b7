//! What handlers take of a request before its body: its query, the name in its path, and, for writes of the life
//! cycle, by whom, where and on which conditions.

use super::life::Here;
use super::model::Who;
use super::problem::Problem;
use super::routes::Api;
use super::rules;
use super::versions::Conditions;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A query that holds what `T` says and nothing else.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::bad_request("invalid_query", error.body_text(), "查询参数无效")),
        }
    }
}

/// What the path names: a name, an id, a number; for more than one, a tuple.
#[derive(Debug)]
pub(super) struct Named<T = String>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, api).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(error) => Err(Problem::bad_request("invalid_path", error.body_text(), "路径无效")),
        }
    }
}

/// Who asks.
impl FromRequestParts<Api> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::named("")))
    }
}

impl Who {
    /// The same, who says why.
    ///
    /// # Errors
    /// `invalid_text`.
    pub(super) fn because(self, reason: Option<String>) -> Result<Self, Problem> {
        let wrong = |refusal| Problem::Status(StatusCode::BAD_REQUEST, refusal);
        Ok(Self { why: rules::text("reason", reason).map_err(wrong)?.map(Into::into), ..self })
    }
}

/// `?dry_run=&reason=`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DryRun {
    #[serde(default)]
    pub(super) dry_run: bool,
    /// For the change log.
    pub(super) reason: Option<String>,
}

/// A write of the life cycle: `Api::enact` does what the handler finds.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) api: Api,
    pub(super) here: Here,
    pub(super) is_dry_run: bool,
}

impl FromRequestParts<Api> for Write {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Params(DryRun { dry_run, reason }) = Params::from_request_parts(parts, api).await?;
        if api.provider.is_empty() {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "provider_missing",
                "this registry's config does not say whose it is: set `provider`",
                "注册库配置缺少 `provider`",
            ));
        }
        let at = jiff::Timestamp::now();
        let here = Here {
            provider: api.provider.to_string(),
            at,
            today: crate::verdict::day(at),
            who: Who::from_request_parts(parts, api).await?.because(reason)?,
            conditions: Conditions::of(&parts.headers),
            rules: api.rules.clone(),
        };
        Ok(Self { api: api.clone(), here, is_dry_run: dry_run })
    }
}
