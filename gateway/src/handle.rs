//! One S3 request from its head to its answer.
//!
//! What always holds: nothing is asked of the body before the request is authentic and permitted;
//! every answer, error or not, carries the request's id; a body that nobody read is drained if it is
//! short, and else the connection closes behind the answer.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use s3::sigv4::{RequestParts, SignatureForm};
use s3::{S3Error, S3ErrorCode};
use tracing::Instrument as _;

use crate::Gateway;
use crate::auth::authorize;
use crate::http::body::RequestBody;
use crate::http::connection::Peer;
use crate::http::framing;
use crate::http::listener::{Handler, Phase};
use crate::http::response::ResponseBody;
use crate::limits::TARGET_BYTES_MAX;
use crate::metrics::RequestMeter;
use crate::ops::{self, Answer};
use crate::request::S3Request;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");

impl Handler for Gateway {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<ResponseBody> {
        let mut meter = self.metrics.begin();
        let id = format!("{:016X}", self.entropy.u64());
        let span = tracing::info_span!("request", %id);
        let (parts, incoming) = request.into_parts();
        let clock = std::sync::Arc::clone(&self.clock);
        let mut body = RequestBody::new(incoming, &parts.headers, clock);
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let result = self.serve(parts, &mut body, &mut meter).instrument(span.clone()).await;
        let code = result.as_ref().err().map(|error| error.code);
        let mut answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                span.in_scope(|| log(&error, &method, &uri));
                self.refuse(&error, &id, &method, &uri)
            }
        };
        if !body.is_finished() && !body.drain().await {
            peer.connection.leave_body_unread();
            framing::close(&mut answer);
        }
        if body.is_refused_continue() {
            framing::close(&mut answer);
        }
        self.metrics.received(body.received());
        let headers = answer.headers_mut();
        // Sixteen hexadecimal digits are always a header's value.
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(HOST_ID, self.host_id.clone());
        headers.insert(header::SERVER, HeaderValue::from_static("Drystone"));
        meter.answered(answer.status(), code);
        answer.map(|body| body.measured(meter))
    }

    fn connections(&self, count: usize) {
        self.metrics.connections(count);
    }

    fn phase(&self, phase: Phase) {
        self.metrics.draining(phase > Phase::Serving);
    }

    fn cut_off(&self, count: usize) {
        self.metrics.cut_off(count);
    }
}

impl Gateway {
    async fn serve(
        &self,
        parts: Parts,
        body: &mut RequestBody,
        meter: &mut RequestMeter,
    ) -> Result<Answer, S3Error> {
        let Parts { method, uri, mut headers, .. } = parts;
        if uri.path_and_query().is_none_or(|target| target.as_str().len() > TARGET_BYTES_MAX) {
            return Err(S3Error::new(S3ErrorCode::InvalidURI));
        }
        let route = s3::route::route(&method, &uri, &headers, &self.addressing)?;
        meter.is_for(route.operation);
        let signed_parts = RequestParts { method: &method, uri: &uri, headers: &headers };
        let signed = self.authenticator.authenticate(&signed_parts, self.clock.now());
        let signed = signed.inspect_err(|error| self.metrics.auth_failure(error.code))?;
        let principal = authorize::principal(signed.as_ref());
        let permit = authorize::authorize(&principal, &route);
        let permit = permit.inspect_err(|error| self.metrics.auth_failure(error.code))?;
        let Some(signed) = signed else {
            // Nobody can be permitted anything yet without a signature.
            return Err(S3Error::new(S3ErrorCode::AccessDenied));
        };
        if signed.form == SignatureForm::Presigned {
            s3::headers::hoist(&route.query, &mut headers)?;
        }
        s3::unsupported::refuse_unsupported(&route, &headers)?;
        let request = S3Request { route, headers, principal, signed };
        ops::run(self, permit, &request, body).await
    }

    /// The answer that says what went wrong.
    fn refuse(
        &self,
        error: &S3Error,
        id: &str,
        method: &Method,
        uri: &http::Uri,
    ) -> Response<ResponseBody> {
        let body = if *method == Method::HEAD {
            ResponseBody::empty()
        } else {
            ResponseBody::whole(error.to_xml(id, &self.host_id_text, uri.path()))
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = error.status();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if let Some(range) = error.content_range()
            && let Ok(range) = HeaderValue::try_from(range)
        {
            headers.insert(header::CONTENT_RANGE, range);
        }
        if matches!(error.code, S3ErrorCode::ServiceUnavailable | S3ErrorCode::SlowDown) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if error.code == S3ErrorCode::MethodNotAllowed {
            let allowed = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE");
            headers.insert(header::ALLOW, allowed);
        }
        answer
    }
}

/// Server errors are logged where they end; what a client did wrong is of interest only to itself.
fn log(error: &S3Error, method: &Method, uri: &http::Uri) {
    let path = uri.path();
    if error.status().is_server_error() && error.code != S3ErrorCode::NotImplemented {
        tracing::warn!(code = %error.code, message = %error.message, %method, path, "request failed");
    } else {
        tracing::debug!(code = %error.code, message = %error.message, %method, path, "request refused");
    }
}
